/** IP addresses as text: checked, and in their shortest spelling (RFC 5952). */

const OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
const IPV4 = new RegExp(`^${OCTET}(?:\\.${OCTET}){3}$`);
const IPV6 = /^[0-9A-Fa-f:.]{2,45}$/;

/** null when it is none; a scope (`%…`) makes it none: it means nothing elsewhere. */
export function readAddress(value: string): string | null {
  if (IPV4.test(value)) return value;
  if (!IPV6.test(value) || !value.includes(":")) return null;
  const url = `http://[${value}]/`; // whose parser knows every spelling
  return URL.canParse(url) ? new URL(url).hostname.slice(1, -1) : null;
}

/** Whether packets to it reach one machine: not many, not none. Expects `readAddress`'s
 * spelling. */
export function isOneMachine(address: string): boolean {
  if (!address.includes(":")) {
    const first = Number(address.split(".", 1)[0]);
    const isMulticast = first >= 224 && first <= 239;
    return !isMulticast && address !== "0.0.0.0" && address !== "255.255.255.255";
  }
  // ff00::/8, ::, and ::ffff:0:0/96 (IPv4 that would pass for IPv6)
  return !/^ff..:/.test(address) && address !== "::" && !/^::ffff:.+:/.test(address);
}
