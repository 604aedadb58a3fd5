/** Keys that would break a page which takes them for anything else than text. */
export const hostileKeys = (prefix: string): ReadonlyArray<string> => [
  "<script>window.hacked=1</script>",
  "<img src=x onerror=window.hacked=1>",
  "\"><svg onload=window.hacked=1>",
  "' onmouseover='window.hacked=1",
  "javascript:window.hacked=1",
  "</title></style></textarea><script>window.hacked=1</script>",
  "${window.hacked=1}",
  "{{window.hacked=1}}x",
  "__proto__",
  "constructor:prototype/__proto__",
  "line\nfeed\r\nand\ttab",
  "\u001b[2J\u001b[31mterminal\u0007",
  "\u0001\u0002\u0085\u009b",
  "right\u202eto\u2066left\u200f",
  "שלום:עולם/مرحبا",
  "👩‍👩‍👧‍👦:🏴󠁧󠁢󠁥󠁮󠁧󠁿/🙂",
  `Zalgo${"\u0301\u0323\u0335".repeat(40)}`,
  ":::///:::///",
  "a".repeat(1_024 - prefix.length),
  `${"deep/".repeat(180)}end`
]
