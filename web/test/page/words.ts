/** Answers for the screenshots and for measuring: what models really write like. */

export const RICH = `The **short answer**: a heap keeps the smallest element on top, and each operation costs only the *height* of the tree.

### Why it is fast

A binary heap with $n$ elements has height $\\lfloor \\log_2 n \\rfloor$. Pushing or popping moves one element along one path, so

$$
T(n) = O(\\log n), \\qquad \\sum_{i=1}^{n} \\log i = \\log n! \\approx n \\log n - n
$$

| operation | list | heap |
|---|---:|---:|
| smallest | $O(n)$ | $O(1)$ |
| insert | $O(1)$ | $O(\\log n)$ |
| remove smallest | $O(n)$ | $O(\\log n)$ |

Here it is in Python:

\`\`\`python
import heapq

def merge(streams):
    """Yield items of sorted streams, smallest first."""
    heap = [(next(s), i, s) for i, s in enumerate(map(iter, streams))]
    heapq.heapify(heap)
    while heap:
        item, i, stream = heap[0]
        yield item
        try:
            heapq.heapreplace(heap, (next(stream), i, stream))
        except StopIteration:
            heapq.heappop(heap)
\`\`\`

- [x] memory stays at one item per stream
- [ ] ties are broken by \`i\`, so items need not be comparable beyond order

> A heap is the right tool whenever you only ever care about *the next one*.
`;

export const LONG = Array.from({ length: 14 }, (_, n) =>
  RICH.replace("The **short", `## Part ${n + 1}\n\nThe **short`),
).join("\n");
