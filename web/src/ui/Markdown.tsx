/** Markdown on the page: elements made from our tree, never HTML from a string. */

import type { JSX } from "preact";
import { memo } from "preact/compat";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Block, Inline, Item } from "../markdown/ast.ts";
import { EMPTY, type Grown, grow } from "../markdown/grow.ts";
import { CodeBlock } from "./CodeBlock.tsx";
import { Formula } from "./Formula.tsx";

/** Reads again only what may have changed, however often `text` grows. */
export function Markdown({
  text,
  isGrowing,
}: {
  text: string;
  isGrowing: boolean;
}): JSX.Element {
  const grown = useRef<Grown>(EMPTY);
  grown.current = grow(grown.current, text);
  const { settled, open } = grown.current;
  const top = topLevel([...settled, ...open]);
  return (
    <div class={isGrowing ? "prose growing" : "prose"}>
      {settled.map((block, index) => (
        <BlockView key={index} block={block} top={top} />
      ))}
      {open.map((block, index) => (
        <BlockView key={settled.length + index} block={block} top={top} />
      ))}
    </div>
  );
}

/** The highest of the headings: it comes right below the page's own. */
function topLevel(list: readonly Block[]): number {
  return list.reduce(
    (top, block) => (block.type === "heading" ? Math.min(top, block.level) : top),
    6,
  );
}

/** A settled block is the same object each time: nothing of it is looked at again. */
const BlockView = memo(
  ({ block, top = 1 }: { block: Block; top?: number }): JSX.Element => {
    switch (block.type) {
      case "paragraph":
        return <p>{inlines(block.children)}</p>;
      case "heading":
        return <Heading level={block.level} top={top} inside={block.children} />;
      case "code":
        return <CodeBlock language={block.language} text={block.text} />;
      case "math":
        return <Formula tex={block.text} isDisplay={true} />;
      case "quote":
        return <blockquote>{blocks(block.children)}</blockquote>;
      case "list":
        return <List block={block} />;
      case "table":
        return <Table block={block} />;
      case "rule":
        return <hr />;
    }
  },
);

function blocks(list: readonly Block[]): JSX.Element[] {
  return list.map((block, index) => <BlockView key={index} block={block} />);
}

const HEADINGS = ["h2", "h3", "h4", "h5", "h6"] as const;

function Heading(props: {
  level: number;
  top: number;
  inside: readonly Inline[];
}): JSX.Element {
  const { level, top, inside } = props;
  const Tag = HEADINGS[Math.max(0, level - top)] ?? "h6";
  return <Tag class={`h${Math.min(4, level)}`}>{inlines(inside)}</Tag>;
}

function List({ block }: { block: Block & { type: "list" } }): JSX.Element {
  const items = block.items.map((item, index) => (
    <ListItem key={index} item={item} isLoose={block.isLoose} />
  ));
  const style = block.isLoose ? "loose" : "tight";
  if (block.start === null) return <ul class={style}>{items}</ul>;
  return (
    <ol class={style} start={block.start}>
      {items}
    </ol>
  );
}

function ListItem({ item, isLoose }: { item: Item; isLoose: boolean }): JSX.Element {
  const content = item.children.map((block, index) =>
    block.type === "paragraph" && !isLoose ? (
      <span key={index}>{inlines(block.children)}</span>
    ) : (
      <BlockView key={index} block={block} />
    ),
  );
  if (item.isChecked === null) return <li>{content}</li>;
  return (
    <li class="task">
      <input
        type="checkbox"
        checked={item.isChecked}
        disabled
        aria-label={item.isChecked ? "done" : "to do"}
      />
      <div>{content}</div>
    </li>
  );
}

function Table({ block }: { block: Block & { type: "table" } }): JSX.Element {
  const align = (index: number) => `to-${block.align[index] ?? "left"}`;
  return (
    // Reachable by keyboard, because wide tables scroll.
    <div class="table" role="region" aria-label="Table" tabIndex={0}>
      <table>
        <thead>
          <tr>
            {block.header.map((cell, index) => (
              <th key={index} scope="col" class={align(index)}>
                {inlines(cell)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {block.rows.map((row, at) => (
            <tr key={at}>
              {row.map((cell, index) => (
                <td key={index} class={align(index)}>
                  {inlines(cell)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function inlines(list: readonly Inline[]): (JSX.Element | string)[] {
  return list.map(inline);
}

function inline(node: Inline, index: number): JSX.Element | string {
  switch (node.type) {
    case "text":
      return node.text;
    case "strong":
      return <strong key={index}>{inlines(node.children)}</strong>;
    case "em":
      return <em key={index}>{inlines(node.children)}</em>;
    case "del":
      return <del key={index}>{inlines(node.children)}</del>;
    case "code":
      return <code key={index}>{node.text}</code>;
    case "math":
      return <Formula key={index} tex={node.text} isDisplay={node.isDisplay} />;
    case "break":
      return <br key={index} />;
    case "link":
      return (
        <a
          key={index}
          href={node.href}
          target="_blank"
          rel="noopener noreferrer nofollow"
          title={node.href}
        >
          {inlines(node.children)}
        </a>
      );
  }
}

/** A small state that tells for a moment that something was done. */
export function useBriefly(ms = 1600): [boolean, () => void] {
  const [is, set] = useState(false);
  useEffect(() => {
    if (!is) return undefined;
    const timer = setTimeout(() => set(false), ms);
    return () => clearTimeout(timer);
  }, [is, ms]);
  return [is, () => set(true)];
}
