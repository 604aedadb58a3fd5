import { describe, expect, test } from "vitest"
import { checkBlocks, findBlocks, show } from "../../scripts/doc-blocks.ts"

describe("the examples in the documents and in the doc comments type-check", () => {
  const blocks = findBlocks()
  const problems = checkBlocks(blocks)

  test("what they import type-checks", () => {
    expect(problems.filter((problem) => problem.block === undefined).map(show)).toEqual([])
  })

  test.each(blocks.map((block) => [`${block.file}:${block.line}`, block] as const))("%s", (_, block) => {
    expect(problems.filter((problem) => problem.block === block).map(show)).toEqual([])
  })
})

test("an example that does not compile is found at its line", () => {
  const wrong = { file: "README.md", line: 3, text: "\n\n\nimport { Effect } from \"effect\"\nEffect.nothing(1)\n" }
  const right = { file: "README.md", line: 9, text: "export const x: number = 1\n" }
  const problems = checkBlocks([wrong, right])
  expect(problems).toHaveLength(1)
  expect(problems[0]).toMatchObject({ file: "README.md", line: 5, block: wrong })
})
