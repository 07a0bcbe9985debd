/** Whether this page came from a gateway of this machine or from a signaling server. */

export type Server = "gateway" | "hub";

/** A gateway speaks Ollama's API, a hub does not. Rejects when nobody answers. */
export async function whoServes(origin: string, ask = fetch): Promise<Server> {
  const response = await ask(`${origin}/api/version`);
  return response.ok ? "gateway" : "hub";
}
