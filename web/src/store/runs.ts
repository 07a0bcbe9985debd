/**
 * Answers under way, byte by byte: what is here the provider need not keep any more, and
 * after a reload the answer goes on behind it.
 */

import type { AnswerMessage } from "../chat/types.ts";
import { asPromise, PIECES, RUNS, transact } from "./database.ts";

export interface Run {
  /** Under which it was asked. */
  readonly key: string;
  /** As it was when it was asked: what comes is added to its text. */
  readonly message: AnswerMessage;
}

export interface KeptRun extends Run {
  readonly pieces: readonly Uint8Array[];
}

interface Piece {
  readonly key: string;
  readonly n: number;
  readonly bytes: Uint8Array;
}

export class Runs {
  readonly #database: IDBDatabase;

  constructor(database: IDBDatabase) {
    this.#database = database;
  }

  begin(run: Run): Promise<void> {
    return transact(this.#database, [RUNS], "readwrite", async (transaction) => {
      transaction.objectStore(RUNS).put(run);
    });
  }

  /** Resolves once they are kept: only then may the next ones be asked for. */
  append(key: string, n: number, bytes: Uint8Array): Promise<void> {
    const piece: Piece = { key, n, bytes };
    return transact(this.#database, [PIECES], "readwrite", async (transaction) => {
      transaction.objectStore(PIECES).put(piece);
    });
  }

  end(key: string): Promise<void> {
    return transact(
      this.#database,
      [RUNS, PIECES],
      "readwrite",
      async (transaction) => {
        transaction.objectStore(RUNS).delete(key);
        transaction.objectStore(PIECES).delete(piecesOf(key));
      },
    );
  }

  all(): Promise<KeptRun[]> {
    return transact(this.#database, [RUNS, PIECES], "readonly", async (transaction) => {
      const runs = (await asPromise(transaction.objectStore(RUNS).getAll())) as Run[];
      const kept: KeptRun[] = [];
      for (const run of runs) {
        const found = transaction.objectStore(PIECES).getAll(piecesOf(run.key));
        const pieces = ((await asPromise(found)) as Piece[]).map(({ bytes }) => bytes);
        kept.push({ ...run, pieces });
      }
      return kept;
    });
  }
}

function piecesOf(key: string): IDBKeyRange {
  return IDBKeyRange.bound([key, 0], [key, Number.MAX_SAFE_INTEGER]);
}
