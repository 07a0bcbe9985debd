/** Registers the service worker, so that what is kept can be read without a network. */

interface TrustedTypes {
  createPolicy(
    name: string,
    rules: { createScriptURL(url: string): string },
  ): {
    createScriptURL(url: string): string;
  };
}

export function keepOffline(): void {
  if (!("serviceWorker" in navigator)) return;
  // The page's policy lets no string become a script's address but this one.
  const types = (globalThis as { trustedTypes?: TrustedTypes }).trustedTypes;
  const policy = types?.createPolicy("meshllm", {
    createScriptURL: () => "/worker.js",
  });
  const url = policy?.createScriptURL("") ?? "/worker.js";
  navigator.serviceWorker.register(url, { scope: "/" }).catch(() => undefined);
}
