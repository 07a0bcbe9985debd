/** The clocks of a browser, in the units of the pure rooms. */

/** Seconds since some moment; never goes back. */
export function nowS(): number {
  return performance.now() / 1_000;
}

/** Whole seconds since 1970 (UTC). */
export function unixS(): number {
  return Math.floor(Date.now() / 1_000);
}

/** After so many milliseconds, or when the signal is aborted: then it throws its reason. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** What the work gives, unless the signal is aborted first: then its reason. The work
 * itself is not stopped by that. */
export function unlessAborted<Value>(
  work: Promise<Value>,
  signal: AbortSignal,
): Promise<Value> {
  if (signal.aborted) {
    work.catch(() => {});
    return Promise.reject(signal.reason as Error);
  }
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error);
    signal.addEventListener("abort", onAbort, { once: true });
    work.then(resolve, reject).finally(() => {
      signal.removeEventListener("abort", onAbort);
    });
  });
}
