/** The way into a mesh, as the page's face needs it: in, out, and who we are there. */

import type { Connection } from "../connection.ts";
import { ConfigError } from "../errors.ts";
import { Home } from "../home.ts";
import { join } from "../joining.ts";
import { connectMesh, type MeshOptions } from "../meshConnection.ts";

export class Door {
  readonly #home: Home;
  readonly #isSecure: boolean;
  readonly #options: MeshOptions;

  private constructor(home: Home, isSecure: boolean, options: MeshOptions) {
    this.#home = home;
    this.#isSecure = isSecure;
    this.#options = options;
  }

  /** `isSecure` is the page's `isSecureContext`. */
  static async open(isSecure: boolean, options: MeshOptions): Promise<Door> {
    return new Door(await Home.open(), isSecure, options);
  }

  /** Null: this browser is in no mesh. */
  async connect(): Promise<Connection | null> {
    const known = await this.#home.known();
    return known === null ? null : connectMesh(this.#home, known, this.#options);
  }

  /** Uses an invitation. Throws a MeshError that says why it does not hold. */
  async join(link: string): Promise<Connection> {
    await join(this.#home, link, this.#isSecure);
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
