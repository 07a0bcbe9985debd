/** When two names mean one model: case and an absent `:latest` do not count. */

/** Folded, and with the tag that Ollama adds. */
export function fullName(name: string): string {
  const folded = name.trim().toLowerCase();
  const last = folded.slice(folded.lastIndexOf("/") + 1);
  return last.includes(":") ? folded : `${folded}:latest`;
}

export function isSameName(one: string, other: string): boolean {
  return fullName(one) === fullName(other);
}
