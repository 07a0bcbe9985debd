/** Pure: an answer that grows, as whole sentences to be read aloud. */

/** What can be said of `text` from `from` on, and how far that goes. */
export function sentences(
  text: string,
  from: number,
  isWhole: boolean,
): { text: string; upTo: number } {
  const rest = text.slice(from);
  const end = isWhole ? rest.length : lastEnd(rest);
  return { text: spoken(rest.slice(0, end)), upTo: from + end };
}

function lastEnd(text: string): number {
  let end = 0;
  for (const match of text.matchAll(/[.!?…:](?=\s)|\n/g))
    end = match.index + match[0].length;
  return end;
}

/** Without the marks that only the eye needs. */
function spoken(text: string): string {
  return text
    .replace(/^ {0,3}(?:```|~~~).*$/gm, "")
    .replace(/^\s*(?:#{1,6}|[-*+>]|\d+[.)])\s+/gm, "")
    .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/[*_`|]+/g, " ")
    .replace(/\s+/g, " ")
    .trim();
}
