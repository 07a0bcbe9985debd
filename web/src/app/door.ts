/** The way into a mesh, as the page's face needs it: in, out, and who we are there. */

import type { Connection } from "../connection.ts";
import { ConfigError } from "../errors.ts";
import { Home } from "../home.ts";
import { join } from "../joining.ts";
import { connectMesh, type MeshOptions } from "../meshConnection.ts";
import type { Screen } from "../pairing.ts";

export class Door {
  readonly #home: Home;
  readonly #origin: string;
  readonly #isSecure: boolean;
  readonly #options: MeshOptions;

  private constructor(
    home: Home,
    origin: string,
    isSecure: boolean,
    options: MeshOptions,
  ) {
    this.#home = home;
    this.#origin = origin;
    this.#isSecure = isSecure;
    this.#options = options;
  }

  /** `origin` is the server's that this page is from, `isSecure` its `isSecureContext`. */
  static async open(
    origin: string,
    isSecure: boolean,
    options: MeshOptions,
  ): Promise<Door> {
    return new Door(await Home.open(), origin, isSecure, options);
  }

  /** Null: this browser is in no mesh. */
  async connect(): Promise<Connection | null> {
    const known = await this.#home.known();
    return known === null ? null : connectMesh(this.#home, known, this.#options);
  }

  /** Uses an invitation. Throws a MeshError that says why it does not hold. */
  async join(link: string): Promise<Connection> {
    await join(this.#home, link, this.#isSecure);
    return this.#in();
  }

  /** From one mesh into another. With a link that does not hold it is as it was, but
   * that `before` is closed. Throws as `join` does. */
  async change(before: Connection, link: string): Promise<Connection> {
    const former = await this.#home.known();
    await before.close();
    await this.#home.leave();
    try {
      return await this.join(link);
    } catch (error) {
      if (former !== null) await this.#home.begin(former);
      throw error;
    }
  }

  /** Pairs with the owner's machine, in that mailbox of the page’s server.
   * Throws a MeshError that says why it failed, or the reason of `signal`. */
  async pair(number: number, screen: Screen, signal: AbortSignal): Promise<Connection> {
    const { comeIn } = await import("../pairing.ts"); // few pair, and once
    await comeIn(this.#home, this.#origin, number, screen, this.#isSecure, signal);
    return this.#in();
  }

  async #in(): Promise<Connection> {
    const connection = await this.connect();
    if (connection === null)
      throw new ConfigError("The invitation was not kept. Try it again.");
    return connection;
  }

  /** Forgets the mesh; the conversations stay. */
  leave(): Promise<void> {
    return this.#home.leave();
  }
}
