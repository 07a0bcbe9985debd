/** Files from the clipboard, a drop or the camera, as pictures and texts to send. */

import type { Picture, TextFile } from "../chat/types.ts";
import { bytes } from "../chat/words.ts";

const LONGEST_SIDE = 1568; // pixels; vision models scale larger ones down themselves
const KEPT_AS_IT_IS = 700_000; // bytes
const TEXT_LIMIT = 512 * 1024;
const QUALITY = 0.88;

export interface Taken {
  readonly pictures: Picture[];
  readonly files: TextFile[];
  /** One sentence for each file that cannot go along. */
  readonly refused: string[];
}

export async function takeIn(files: readonly File[]): Promise<Taken> {
  const taken: Taken = { pictures: [], files: [], refused: [] };
  for (const file of files) {
    try {
      if (file.type.startsWith("image/") && file.type !== "image/svg+xml") {
        taken.pictures.push(await readPicture(file));
      } else {
        taken.files.push(await readText(file));
      }
    } catch (error) {
      taken.refused.push(error instanceof Error ? error.message : String(error));
    }
  }
  return taken;
}

/** Drawn anew: smaller, and without the place and the camera that a photo tells of. */
async function readPicture(file: File): Promise<Picture> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error(
      `${file.name} is no picture that this browser can read. JPEG, PNG and WebP are.`,
    );
  }
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(bitmap.width * scale));
  const height = Math.max(1, Math.round(bitmap.height * scale));
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  if (context === null) throw new Error("This browser cannot draw pictures.");
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  let blob = file.type === "image/png" ? await encode(canvas, "image/png") : null;
  if (blob === null || blob.size > KEPT_AS_IT_IS) {
    context.globalCompositeOperation = "destination-over"; // JPEG knows no transparency
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    blob = await encode(canvas, "image/jpeg");
  }
  const content = new Uint8Array(await blob.arrayBuffer());
  return {
    name: file.name || "picture",
    type: blob.type,
    bytes: content,
    width,
    height,
  };
}

function encode(canvas: HTMLCanvasElement, type: string): Promise<Blob> {
  return new Promise((resolve, reject) => {
    const done = (blob: Blob | null) =>
      blob
        ? resolve(blob)
        : reject(new Error("This browser could not save the picture."));
    canvas.toBlob(done, type, QUALITY);
  });
}

async function readText(file: File): Promise<TextFile> {
  if (file.size > TEXT_LIMIT) {
    throw new Error(
      `${file.name} has ${bytes(file.size)}; texts up to ${bytes(TEXT_LIMIT)} can go along.`,
    );
  }
  const content = await file.arrayBuffer();
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(content);
    if (text.includes("\0")) throw new TypeError("binary");
    return { name: file.name, text };
  } catch {
    throw new Error(`${file.name} is neither a picture nor plain text.`);
  }
}
