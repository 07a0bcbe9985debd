/** Reads an invitation's QR code with the camera. */

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Detector, makeDetector } from "./detector.ts";

const LOOK_MS = 200;

/** Over plain http no page gets a camera. */
export function canScan(): boolean {
  return navigator.mediaDevices?.getUserMedia !== undefined;
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
      stream = await navigator.mediaDevices.getUserMedia({
        video: { facingMode: "environment" },
      });
      if (isOver || !video.current) return end();
      video.current.srcObject = stream;
      await video.current.play();
      await look(await makeDetector());
    };
    const end = () => {
      for (const track of stream?.getTracks() ?? []) track.stop();
    };
    begin().catch((error: unknown) => {
      end();
      if (!isOver) setProblem(sentence(error));
    });
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

/** By the errors of `getUserMedia`. */
function sentence(error: unknown): string {
  switch (error instanceof DOMException ? error.name : "") {
    case "NotAllowedError":
      return "This page may not use the camera. Allow it in the browser’s settings for this page, or paste the link.";
    case "NotFoundError":
    case "OverconstrainedError":
      return "There is no camera here. Paste the link, or come in by digits.";
    case "NotReadableError":
      return "The camera is in use by another program. Close that, or paste the link.";
    default:
      return "The camera’s picture cannot be read here. Paste the link, or come in by digits.";
  }
}
