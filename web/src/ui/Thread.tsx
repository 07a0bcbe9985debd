/** The conversation: it stays at its end while it grows, unless somebody scrolled away. */

import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { AnswerTurn } from "./AnswerTurn.tsx";
import { Banner } from "./Banner.tsx";
import { useWorld } from "./context.ts";
import { Icon } from "./icons.tsx";
import { UserTurn } from "./UserTurn.tsx";
import { Welcome } from "./Welcome.tsx";

const NEAR = 48; // pixels from the end that count as being there

export function Thread(): JSX.Element {
  const { chat } = useWorld();
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(true);
  const [isAway, setAway] = useState(false);
  const path = chat.path.value;
  const { id, leaf } = chat.current.value;

  const toEnd = () => {
    isAtEnd.current = true;
    setAway(false);
    scroller.current?.scrollTo({ top: scroller.current.scrollHeight });
  };
  // A conversation opens at its end, and what was just asked is in view.
  useLayoutEffect(toEnd, [id, leaf]);

  useEffect(() => {
    const { current: area } = scroller;
    if (!area || !content.current) return undefined;
    let last = area.scrollTop;
    const onScroll = () => {
      const rest = area.scrollHeight - area.clientHeight - area.scrollTop;
      // Only going up leaves the end: growing content does not.
      if (area.scrollTop < last - 2) isAtEnd.current = rest < NEAR / 4;
      if (rest < NEAR) isAtEnd.current = true;
      last = area.scrollTop;
      setAway(rest > 4 * NEAR);
    };
    const growing = new ResizeObserver(() => {
      if (isAtEnd.current) area.scrollTop = area.scrollHeight;
    });
    growing.observe(content.current);
    growing.observe(area);
    area.addEventListener("scroll", onScroll, { passive: true });
    return () => {
      growing.disconnect();
      area.removeEventListener("scroll", onScroll);
    };
  }, []);

  return (
    <main class="thread" ref={scroller} id="thread" tabIndex={-1}>
      <Banner />
      <div class="turns" ref={content}>
        {path.length === 0 ? (
          <Welcome />
        ) : (
          <h1 class="visually-hidden">{chat.current.value.title}</h1>
        )}
        {path.map((message, index) =>
          message.role === "user" ? (
            <UserTurn key={message.id} message={message} />
          ) : (
            <AnswerTurn
              key={message.id}
              message={message}
              isLast={index === path.length - 1}
            />
          ),
        )}
      </div>
      {isAway && (
        <button type="button" class="to-end" aria-label="To the end" onClick={toEnd}>
          <Icon name="down" />
        </button>
      )}
    </main>
  );
}
