/** When two names mean one model: Ollama adds `:latest` and looks at no case. */

export function fullName(name: string): string {
  return name.slice(name.lastIndexOf("/") + 1).includes(":") ? name : `${name}:latest`;
}

export function isSameName(one: string, other: string): boolean {
  return fullName(one).toLowerCase() === fullName(other).toLowerCase();
}
