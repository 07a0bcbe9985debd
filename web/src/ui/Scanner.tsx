/** Reads a QR code with the camera, where the browser itself can. */

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

interface Detector {
  detect(source: HTMLVideoElement): Promise<readonly { readonly rawValue: string }[]>;
}

type DetectorClass = new (options: { formats: string[] }) => Detector;

const LOOK_MS = 200;

function detectorClass(): DetectorClass | undefined {
  return (globalThis as { BarcodeDetector?: DetectorClass }).BarcodeDetector;
}

export function canScan(): boolean {
  return detectorClass() !== undefined && navigator.mediaDevices !== undefined;
}

interface Props {
  readonly onFound: (text: string) => void;
  readonly onEnd: () => void;
}

export function Scanner({ onFound, onEnd }: Props): JSX.Element {
  const video = useRef<HTMLVideoElement>(null);
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    let stream: MediaStream | null = null;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isOver = false;
    const look = async (detector: Detector) => {
      if (isOver || !video.current) return;
      const found = await detector.detect(video.current).catch(() => []);
      const text = found[0]?.rawValue;
      if (isOver) return;
      if (text?.includes("#")) onFound(text);
      else timer = setTimeout(() => void look(detector), LOOK_MS);
    };
    const begin = async () => {
      const Class = detectorClass();
      if (!Class) return;
      stream = await navigator.mediaDevices.getUserMedia({
        video: { facingMode: "environment" },
      });
      if (isOver || !video.current) return end();
      video.current.srcObject = stream;
      await video.current.play();
      await look(new Class({ formats: ["qr_code"] }));
    };
    const end = () => {
      for (const track of stream?.getTracks() ?? []) track.stop();
    };
    begin().catch(() =>
      setProblem(
        "This page may not use the camera. Allow it in the address bar, or paste the link.",
      ),
    );
    return () => {
      isOver = true;
      clearTimeout(timer);
      end();
    };
  }, []);
  return (
    <div class="scanner">
      {problem ? (
        <p role="alert">{problem}</p>
      ) : (
        <video ref={video} muted playsInline aria-label="Camera" />
      )}
      <button type="button" class="button" onClick={onEnd}>
        Cancel
      </button>
    </div>
  );
}
