/**
 * What this page keeps between visits: one IndexedDB database, one object store.
 *
 * Every tab of the origin shares it, so changes are made from what is stored then.
 */

const STORE = "node";

export class Store {
  readonly #database: IDBDatabase;

  private constructor(database: IDBDatabase) {
    this.#database = database;
  }

  static async open(name = "meshllm"): Promise<Store> {
    const opening = indexedDB.open(name, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
    const database = await done(opening);
    database.onversionchange = () => database.close(); // a newer page in another tab
    return new Store(database);
  }

  /** undefined when nothing is stored under it. */
  get(key: string): Promise<unknown> {
    return done(this.#store("readonly").get(key));
  }

  /**
   * What is stored after `change`, which gets what is stored before and must not wait for
   * anything: nobody else writes between. Returning undefined removes it.
   */
  update<Value>(
    key: string,
    change: (before: unknown) => Value | undefined,
  ): Promise<Value | undefined> {
    const store = this.#store("readwrite");
    const { transaction } = store;
    return new Promise((resolve, reject) => {
      let after: Value | undefined;
      let failure: unknown = null;
      transaction.oncomplete = () => resolve(after);
      transaction.onabort = () => reject(failure ?? transaction.error);
      const reading = store.get(key);
      reading.onsuccess = () => {
        try {
          after = change(reading.result);
          if (after === undefined) store.delete(key);
          else store.put(after, key);
        } catch (error) {
          failure = error;
          transaction.abort();
        }
      };
    });
  }

  close(): void {
    this.#database.close();
  }

  #store(mode: IDBTransactionMode): IDBObjectStore {
    return this.#database.transaction(STORE, mode).objectStore(STORE);
  }
}

function done<Value>(request: IDBRequest<Value>): Promise<Value> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
