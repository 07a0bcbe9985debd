/** Finds QR codes in pictures: the browser does, or else a library, whose name stops here. */

export interface Detector {
  detect(source: HTMLVideoElement): Promise<readonly { readonly rawValue: string }[]>;
}

interface DetectorClass {
  new (options: { formats: ["qr_code"] }): Detector;
  getSupportedFormats(): Promise<readonly string[]>;
}

/** The library is fetched by those who need it: Firefox, Safari, and Chromium where its
 * system cannot read codes. */
export async function makeDetector(): Promise<Detector> {
  const own = (globalThis as { BarcodeDetector?: DetectorClass }).BarcodeDetector;
  const formats = (await own?.getSupportedFormats().catch(() => [])) ?? [];
  const Class = own && formats.includes("qr_code") ? own : await fetched();
  return new Class({ formats: ["qr_code"] });
}

async function fetched(): Promise<DetectorClass> {
  return (await import("qr/decode.js")).BarcodeDetector;
}
