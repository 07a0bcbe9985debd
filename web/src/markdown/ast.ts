/** Markdown as a tree of our own: what may be shown, and nothing else. */

export type Align = "left" | "center" | "right" | null;

export type Inline =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "strong" | "em" | "del"; readonly children: readonly Inline[] }
  | { readonly type: "code"; readonly text: string }
  | { readonly type: "math"; readonly text: string; readonly isDisplay: boolean }
  /** `href` is http, https or mailto. */
  | {
      readonly type: "link";
      readonly href: string;
      readonly children: readonly Inline[];
    }
  | { readonly type: "break" };

export interface Item {
  /** A task's box; null when it is no task. */
  readonly isChecked: boolean | null;
  readonly children: readonly Block[];
}

export type Block =
  | { readonly type: "paragraph"; readonly children: readonly Inline[] }
  | {
      readonly type: "heading";
      readonly level: number;
      readonly children: readonly Inline[];
    }
  | { readonly type: "code"; readonly language: string; readonly text: string }
  | { readonly type: "math"; readonly text: string }
  | { readonly type: "quote"; readonly children: readonly Block[] }
  | {
      readonly type: "list";
      /** The first number; null when it has bullets. */
      readonly start: number | null;
      readonly isLoose: boolean;
      readonly items: readonly Item[];
    }
  | {
      readonly type: "table";
      readonly align: readonly Align[];
      readonly header: readonly (readonly Inline[])[];
      readonly rows: readonly (readonly (readonly Inline[])[])[];
    }
  | { readonly type: "rule" };
