/**
 * The service worker: the page opens without a network, to read what is kept here. It
 * keeps the page's own files and nothing else; answers of models and of servers never
 * pass through it.
 */

interface WorkerScope {
  addEventListener(type: string, listener: (event: WorkerEvent) => void): void;
  skipWaiting(): Promise<void>;
  readonly clients: { claim(): Promise<void> };
  readonly location: Location;
}

interface WorkerEvent {
  readonly request: Request;
  waitUntil(work: Promise<unknown>): void;
  respondWith(response: Promise<Response>): void;
}

// Written in by the build.
const FILES = "__FILES__" as unknown as readonly string[];
const CACHE = "meshllm-page-__VERSION__";
const SHELL = "/";
const PATIENCE_MS = 2_500;

const worker = self as unknown as WorkerScope;

worker.addEventListener("install", (event) => {
  event.waitUntil(fill().then(() => worker.skipWaiting()));
});

async function fill(): Promise<void> {
  const cache = await caches.open(CACHE);
  await cache.addAll([...FILES]);
  await keep(cache, await fetch(SHELL, { headers: { Accept: "text/html" } }));
}

/** A server that is there and lets nobody in has another page, which is not kept. */
async function keep(cache: Cache, response: Response): Promise<void> {
  if (response.ok && response.headers.get("Meshllm-Page") === "1") {
    await cache.put(SHELL, response.clone());
  }
}

worker.addEventListener("activate", (event) => {
  const cleaned = caches
    .keys()
    .then((names) =>
      names.filter((name) => name.startsWith("meshllm-page-") && name !== CACHE),
    )
    .then((old) => Promise.all(old.map((name) => caches.delete(name))));
  event.waitUntil(cleaned.then(() => worker.clients.claim()));
});

worker.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== worker.location.origin) return;
  if (request.mode === "navigate" && url.pathname === SHELL && url.search === "") {
    event.respondWith(page(request));
  } else if (/^\/(?:assets|icons)\//.test(url.pathname)) {
    event.respondWith(asset(request));
  }
});

/** The server's own page while it answers, else the one it last gave us. */
async function page(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request, { signal: AbortSignal.timeout(PATIENCE_MS) });
    await keep(cache, response);
    return response;
  } catch {
    return (await cache.match(SHELL)) ?? Response.error();
  }
}

/** Files whose name changes with their content. */
async function asset(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  const known = await cache.match(request);
  if (known !== undefined) return known;
  const response = await fetch(request);
  if (response.ok) await cache.put(request, response.clone());
  return response;
}
