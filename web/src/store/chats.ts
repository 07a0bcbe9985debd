/** Conversations and messages as they are kept in this browser, and nowhere else. */

import { leafOf } from "../chat/branches.ts";
import type { Whole } from "../chat/exchange.ts";
import { readSettings } from "../chat/exchange.ts";
import { fold, hasWords, type Piece, snippet, wordsOf } from "../chat/search.ts";
import type { Conversation, Message } from "../chat/types.ts";
import {
  asPromise,
  BY_CONVERSATION,
  CONVERSATIONS,
  MESSAGES,
  transact,
} from "./database.ts";

export interface Found {
  readonly conversation: string;
  /** The message to show; null when the title was found. */
  readonly message: string | null;
  readonly pieces: readonly Piece[];
}

const FOUND_MAX = 50;

export class Chats {
  readonly #database: IDBDatabase;

  constructor(database: IDBDatabase) {
    this.#database = database;
  }

  async conversations(): Promise<Conversation[]> {
    const all = await this.#read(CONVERSATIONS, (store) => store.getAll());
    return (all as Conversation[]).map(asStored);
  }

  async conversation(id: string): Promise<Conversation | null> {
    const found = (await this.#read(CONVERSATIONS, (store) => store.get(id))) as
      | Conversation
      | undefined;
    return found ? asStored(found) : null;
  }

  async messages(conversation: string): Promise<Message[]> {
    const all = await this.#read(MESSAGES, (store) =>
      store.index(BY_CONVERSATION).getAll(conversation),
    );
    return all as Message[];
  }

  async message(id: string): Promise<Message | null> {
    return (
      ((await this.#read(MESSAGES, (store) => store.get(id))) as Message | undefined) ??
      null
    );
  }

  /** All of it or nothing. */
  put(conversation: Conversation, ...messages: Message[]): Promise<void> {
    return this.#write(async (transaction) => {
      transaction.objectStore(CONVERSATIONS).put(conversation);
      for (const message of messages) transaction.objectStore(MESSAGES).put(message);
    });
  }

  putMessage(message: Message): Promise<void> {
    return this.#write(async (transaction) => {
      // Its conversation may have been deleted in another tab meanwhile.
      const conversation = transaction
        .objectStore(CONVERSATIONS)
        .getKey(message.conversation);
      if ((await asPromise(conversation)) === undefined) return;
      transaction.objectStore(MESSAGES).put(message);
    });
  }

  /** For a page that goes: nothing is waited for, so that it is done all the same. */
  putAtOnce(messages: readonly Message[]): void {
    const transaction = this.#database.transaction([MESSAGES], "readwrite");
    for (const message of messages) transaction.objectStore(MESSAGES).put(message);
    transaction.commit();
  }

  /** Changes what is there now, which another tab may have written. Null: it is gone. */
  change(
    id: string,
    by: (conversation: Conversation) => Conversation,
  ): Promise<Conversation | null> {
    return this.#write(async (transaction) => {
      const store = transaction.objectStore(CONVERSATIONS);
      const found = (await asPromise(store.get(id))) as Conversation | undefined;
      if (found === undefined) return null;
      const changed = by(asStored(found));
      store.put(changed);
      return changed;
    });
  }

  remove(id: string): Promise<void> {
    return this.#write(async (transaction) => {
      transaction.objectStore(CONVERSATIONS).delete(id);
      const messages = transaction.objectStore(MESSAGES);
      const keys = await asPromise(messages.index(BY_CONVERSATION).getAllKeys(id));
      for (const key of keys) messages.delete(key);
    });
  }

  removeAll(): Promise<void> {
    return this.#write(async (transaction) => {
      transaction.objectStore(CONVERSATIONS).clear();
      transaction.objectStore(MESSAGES).clear();
    });
  }

  async add(wholes: readonly Whole[]): Promise<void> {
    for (const { conversation, messages } of wholes) {
      const first = messages[0];
      const leaf =
        conversation.leaf ??
        (first ? leafOf(new Map(messages.map((m) => [m.id, m])), first.id) : null);
      await this.put({ ...conversation, leaf }, ...messages);
    }
  }

  async whole(id: string): Promise<Whole | null> {
    const conversation = await this.conversation(id);
    return conversation && { conversation, messages: await this.messages(id) };
  }

  /** Titles first, then one message of each conversation, the newest ones. */
  async search(query: string): Promise<Found[]> {
    const words = wordsOf(query);
    if (words.length === 0) return [];
    const conversations = await this.conversations();
    conversations.sort((a, b) => b.updatedAt - a.updatedAt);
    const titled: Found[] = [];
    const others: Conversation[] = [];
    for (const conversation of conversations) {
      if (!hasWords(fold(conversation.title), words)) others.push(conversation);
      else titled.push({ conversation: conversation.id, message: null, pieces: [] });
    }
    const said: Found[] = [];
    for (const { id } of others) {
      if (titled.length + said.length >= FOUND_MAX) break;
      const messages = await this.messages(id);
      const hit = messages.findLast((message) => hasWords(fold(message.text), words));
      if (hit)
        said.push({
          conversation: id,
          message: hit.id,
          pieces: snippet(hit.text, words),
        });
    }
    return [...titled, ...said].slice(0, FOUND_MAX);
  }

  #read<T>(
    name: typeof CONVERSATIONS | typeof MESSAGES,
    ask: (store: IDBObjectStore) => IDBRequest<T>,
  ): Promise<T> {
    return transact(this.#database, [name], "readonly", (transaction) =>
      asPromise(ask(transaction.objectStore(name))),
    );
  }

  #write<T>(work: (transaction: IDBTransaction) => Promise<T>): Promise<T> {
    return transact(this.#database, [CONVERSATIONS, MESSAGES], "readwrite", work);
  }
}

/** As an older version of the page may have left it. */
function asStored(conversation: Conversation): Conversation {
  return { ...conversation, settings: readSettings(conversation.settings) };
}
