/** A camera in front of which lies what `meshllm invite --qr` printed. */

import { writeFile } from "node:fs/promises";

const [WIDTH, HEIGHT] = [640, 480];
const MODULE = 8; // pixels
const [PAPER, INK, GREY] = [235, 16, 128];
/** Whether the upper and the lower half of a character are light. */
const HALVES: Readonly<Record<string, readonly [boolean, boolean]>> = {
  "█": [true, true],
  "▀": [true, false],
  "▄": [false, true],
  " ": [false, false],
};

/** Writes one picture as a film (y4m), which Chromium's false camera plays for ever. */
export async function film(path: string, printed: string): Promise<void> {
  const rows = modules(printed);
  const light = Buffer.alloc(WIDTH * HEIGHT, PAPER);
  const left = Math.floor((WIDTH - MODULE * (rows[0]?.length ?? 0)) / 2);
  const top = Math.floor((HEIGHT - MODULE * rows.length) / 2);
  rows.forEach((row, down) => {
    row.forEach((isLight, along) => {
      for (let line = 0; line < MODULE && !isLight; line++) {
        const at = (top + down * MODULE + line) * WIDTH + left + along * MODULE;
        light.fill(INK, at, at + MODULE);
      }
    });
  });
  const colour = Buffer.alloc((WIDTH * HEIGHT) / 2, GREY);
  const head = `YUV4MPEG2 W${WIDTH} H${HEIGHT} F10:1 Ip A1:1 C420jpeg\n`;
  await writeFile(path, Buffer.concat([Buffer.from(`${head}FRAME\n`), light, colour]));
}

/** The code's modules, row by row, as they stand in a terminal. */
function modules(printed: string): boolean[][] {
  const lines = printed.split("\n").filter((line) => /^[█▀▄ ]{20,}$/.test(line));
  return lines.flatMap((line) => {
    const halves = [...line].map((char) => HALVES[char] ?? [true, true]);
    return [halves.map(([upper]) => upper), halves.map(([, lower]) => lower)];
  });
}
