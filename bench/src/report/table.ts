/** A table as Markdown and as text for a terminal; the first column is words, the others are figures. */
export const table = (rows: ReadonlyArray<ReadonlyArray<string>>, words: ReadonlyArray<number> = [0]): string => {
  const widths = rows[0]!.map((_, column) => Math.max(3, ...rows.map((row) => row[column]!.length)))
  const line = (row: ReadonlyArray<string>) =>
    `| ${
      row.map((cell, column) => words.includes(column) ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))
        .join(" | ")
    } |`
  const rule = widths.map((width, column) => words.includes(column) ? "-".repeat(width) : `${"-".repeat(width - 1)}:`)
  const [head, ...body] = rows.map(line)
  return [head, `| ${rule.join(" | ")} |`, ...body].join("\n")
}
