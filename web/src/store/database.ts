/** IndexedDB with promises: opened once, one function per kind of transaction. */

const NAME = "meshllm-chats";
const VERSION = 1;

export const CONVERSATIONS = "conversations";
export const MESSAGES = "messages";
/** Answers under way that a reload need not end, and their bytes as they came. */
export const RUNS = "runs";
export const PIECES = "pieces";
export const BY_CONVERSATION = "conversation";
type StoreName = typeof CONVERSATIONS | typeof MESSAGES | typeof RUNS | typeof PIECES;

/** Rejects with a sentence when the browser keeps nothing for this page. */
export function openDatabase(
  factory: IDBFactory = indexedDB,
  name = NAME,
): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = factory.open(name, VERSION);
    request.onupgradeneeded = () => {
      const database = request.result;
      database.createObjectStore(CONVERSATIONS, { keyPath: "id" });
      const messages = database.createObjectStore(MESSAGES, { keyPath: "id" });
      messages.createIndex(BY_CONVERSATION, "conversation");
      database.createObjectStore(RUNS, { keyPath: "key" });
      database.createObjectStore(PIECES, { keyPath: ["key", "n"] });
    };
    request.onsuccess = () => {
      // A newer page in another tab wants to change the shape: do not stand in its way.
      request.result.onversionchange = () => request.result.close();
      resolve(request.result);
    };
    request.onerror = () => reject(notKept(request.error));
  });
}

function notKept(error: DOMException | null): Error {
  return new Error(
    `This browser keeps no conversations for this page: ${error?.message ?? "no reason given"}.`,
  );
}

export function asPromise<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Runs `work` in one transaction; resolves with its result once that is on disk. */
export async function transact<T>(
  database: IDBDatabase,
  stores: readonly StoreName[],
  mode: IDBTransactionMode,
  work: (transaction: IDBTransaction) => Promise<T>,
): Promise<T> {
  const transaction = database.transaction(stores, mode);
  const done = new Promise<void>((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new Error("aborted"));
    transaction.onerror = () => reject(transaction.error);
  });
  try {
    const result = await work(transaction);
    await done;
    return result;
  } catch (error) {
    done.catch(() => undefined);
    throw error;
  }
}
