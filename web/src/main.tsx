/** Begins the page: opens what is kept, comes into the mesh, shows. */

import { render } from "preact";
import { Chat } from "./app/chat.ts";
import { browserMemory, isRelayOnly, Speeds } from "./app/remembered.ts";
import { BrowserTabs } from "./app/tabs.ts";
import type { Connection } from "./connection.ts";
import { reason } from "./errors.ts";
import { Chats } from "./store/chats.ts";
import { openDatabase } from "./store/database.ts";
import { Runs } from "./store/runs.ts";
import { App } from "./ui/App.tsx";
import { followAddress, takeLink } from "./ui/address.ts";
import { Face } from "./ui/context.ts";
import { frame } from "./ui/frame.ts";
import { keepOffline } from "./ui/offline.ts";
import { followWindow } from "./ui/viewport.ts";
import "./ui/style/index.css";

// First of all: an invitation in the address bar is a secret.
const link = takeLink();

async function begin(place: HTMLElement): Promise<void> {
  followWindow();
  const served = document.querySelector<HTMLMetaElement>(
    "meta[name=meshllm-served-by]",
  );
  const connect = served?.content === "gateway" ? throughGateway : throughMesh;
  const [way, database] = await Promise.all([connect(place), openDatabase()]);
  await show(place, way, database);
  keepOffline();
}

/** A connection, and how to end it for good where that can be done here. */
interface Way {
  readonly connection: Connection;
  readonly leave: (() => Promise<void>) | null;
}

async function throughGateway(): Promise<Way> {
  const { connectGateway } = await import("./gatewayConnection.ts");
  const isHidden = () => document.visibilityState === "hidden";
  return { connection: connectGateway(location.origin, isHidden), leave: null };
}

async function throughMesh(place: HTMLElement): Promise<Way> {
  const { Door } = await import("./app/door.ts");
  const door = await Door.open(location.origin, isSecureContext, {
    isRelayOnly: isRelayOnly(browserMemory()),
  });
  const leave = () => door.leave();
  const before = await door.connect();
  if (before !== null && link === null) return { connection: before, leave };
  const { Arrival } = await import("./ui/Arrival.tsx");
  const connection = await new Promise<Connection>((onIn) => {
    render(<Arrival door={door} link={link} before={before} onIn={onIn} />, place);
  });
  render(null, place);
  return { connection, leave };
}

async function show(
  place: HTMLElement,
  way: Way,
  database: IDBDatabase,
): Promise<void> {
  const { connection, leave } = way;
  const memory = browserMemory();
  const speeds = new Speeds(memory);
  const tabs = new BrowserTabs();
  const [chats, runs] = [new Chats(database), new Runs(database)];
  const chat = new Chat({
    connection,
    chats,
    runs,
    tabs,
    memory,
    speeds,
    frame,
    now: Date.now,
  });
  await chat.load();
  await chat.takeUp();
  await followAddress(chat);
  if (isReload()) void chat.goOnAfterReload();
  addEventListener("pagehide", () => chat.keep());
  const look = () => connection.probe();
  addEventListener("online", look);
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") look();
  });
  render(<App world={{ chat, face: new Face(memory, leave) }} />, place);
}

/** Not opened anew: whoever waited for an answer still does. */
function isReload(): boolean {
  const [how] = performance.getEntriesByType("navigation");
  return how instanceof PerformanceNavigationTiming && how.type === "reload";
}

const place = document.getElementById("page");
if (place !== null) {
  begin(place).catch((error: unknown) => {
    const words = document.createElement("p");
    words.className = "banner bad";
    words.textContent = reason(error);
    place.replaceChildren(words);
  });
}
