import { type Backend, type Contender, versionsOf } from "../contenders/index.ts"
import { historyTable, type Kept } from "./history.ts"
import type { Plot } from "./plots.ts"
import { type Result, type Row, rowsOf } from "./results.ts"
import { table } from "./table.ts"
import { targetRows } from "./targets.ts"
import { type Where, whereTable } from "./where.ts"

const value = (figure: number | undefined, show: (value: number) => string): string =>
  figure === undefined || Number.isNaN(figure) ? "–" : show(figure)

const name = ({ contender }: Row): string => contender.role === "ours" ? `**${contender.name}**` : contender.name

export const resultTable = (result: Result, contenders: ReadonlyArray<Contender>): string => {
  const { columns } = result.workload
  return table([
    ["", ...columns.map(({ title }) => title)],
    ...rowsOf(result, contenders).map((row) => [
      name(row),
      ...columns.map(({ id, show }) => value(row.figures[id], show))
    ])
  ])
}

/** What the figures alone would hide. */
export const remarksOf = (result: Result, contenders: ReadonlyArray<Contender>): ReadonlyArray<string> =>
  rowsOf(result, contenders).flatMap(({ contender, failures, remarks, violations }) => [
    ...(violations > 0 ? [`${contender.name}: **two holders at once, ${violations} times**`] : []),
    ...(failures.length > 0 ? [`${contender.name}: ${failures.length} failures, the first: ${failures[0]}`] : []),
    ...remarks.map((remark) => `${contender.name}: ${remark}`)
  ])

export const targetTable = (results: ReadonlyArray<Result>, contenders: ReadonlyArray<Contender>): string =>
  table([["", "what", "target", "measured", "reached"], ...targetRows(results, contenders)], [0, 1, 4])

const backendNames = { redis: "Redis", etcd: "etcd" } as const

const sectionOf = (
  backend: Backend,
  results: ReadonlyArray<Result>,
  contenders: ReadonlyArray<Contender>,
  plots: ReadonlyArray<Plot>
): ReadonlyArray<string> => [
  `## ${backendNames[backend]}`,
  ...plots.map(({ alt, file }) => `![${alt}](${file})`),
  ...results.filter((result) => result.backend === backend).flatMap((result) => [
    `### ${result.workload.title}${backend === "redis" ? "" : `, ${backendNames[backend]}`}`,
    result.workload.about,
    resultTable(result, contenders),
    ...[remarksOf(result, contenders).map((remark) => `- ${remark}`).join("\n")].filter((list) => list !== "")
  ])
]

export interface Facts {
  readonly machine: ReadonlyArray<string>
  readonly revision: string
  readonly date: string
  readonly command: string
  /** Before and after. */
  readonly load: readonly [number, number]
  readonly busy: boolean
  readonly runs: number
  readonly quick: boolean
  readonly minutes: number
  readonly where: ReadonlyArray<Where>
  /** This run among them, where it was a whole one. */
  readonly history: ReadonlyArray<Kept>
}

const historyOf = ({ history }: Facts): ReadonlyArray<string> =>
  history.length === 0 ? [] : [
    "## Other processors, and before",
    "Whole runs, each on the code of its day. Compare within a column: a processor changes the ratios too.",
    historyTable(history),
    ...[
      history.flatMap(({ date, note, processor }) => note === undefined ? [] : [`- ${date}, ${processor}: ${note}.`])
        .join("\n")
    ].filter((list) => list !== "")
  ]

const whereOf = ({ machine: [processor], where }: Facts): ReadonlyArray<string> =>
  where.length === 0 ? [] : [
    `By a sampling profiler, on ${
      processor!.split(",")[0]
    }, in a process that does nothing else. A function's time is its `
    + "own, without what it calls; what the profiler itself costs is in it.",
    whereTable(where)
  ]

/** The document: what came out, beside what it came out of. */
export const page = (
  facts: Facts,
  results: ReadonlyArray<Result>,
  contenders: ReadonlyArray<Contender>,
  plots: Readonly<Record<Backend, ReadonlyArray<Plot>>>
): string => {
  const backends = [...new Set(results.map(({ backend }) => backend))]
  const clean = results.every(({ runs }) => runs.flat().every(({ violations }) => violations === 0))
  const shown = contenders.filter(({ backend }) => backends.includes(backend))
  return [
    "# Speed",
    "What a lock costs, beside what people use today: all in the same run, on the same servers, by one command. This page "
    + "is written by it.",
    [
      "```sh",
      "npm run bench                      # five runs of everything, and this page; about an hour",
      "npm run bench -- --quick           # one short run, under two minutes; the report goes to .cache/bench",
      "npm run bench -- --only redis --workload one-task --runs 3",
      "npm run bench -- --help            # all flags",
      "```"
    ].join("\n"),
    "## The targets",
    `On ${facts.machine[0]!.split(",")[0]}.`,
    targetTable(results, contenders),
    clean
      ? "In every workload the benchmark looks at who is inside. Nowhere were two holders in at once."
      : "In every workload the benchmark looks at who is inside. Two holders were in at once where a table says so.",
    "## This run",
    [
      `- ${facts.date}, \`${facts.command}\`, ${facts.minutes} minutes: medians of ${facts.runs} run${
        facts.runs === 1 ? "" : "s"
      }${facts.quick ? ", short ones" : ""}`,
      ...facts.machine.map((line) => `- ${line}`),
      `- load of the machine ${facts.load[0].toFixed(1)} before the run, ${facts.load[1].toFixed(1)} at its end${
        facts.busy
          ? ". **It was busy with other work: these figures are no measure of what the libraries can do.**"
          : ""
      }`,
      `- effect-dlock at ${facts.revision}`
    ].join("\n"),
    table([
      ["contender", "how it was set up", "versions"],
      ...shown.map((contender) => [contender.name, contender.settings, versionsOf(contender)])
    ], [0, 1, 2]),
    ...backends.flatMap((backend) => sectionOf(backend, results, contenders, plots[backend])),
    "## Where the time goes",
    "What ours does that the floor does not, and what that costs where it shows. The targets were set before this was known; "
    + "they stay.",
    [
      "- **One task** waits for the server twice a section and has nothing else to do meanwhile. Inside the server ours makes "
      + "seven calls (is there a queue, a tombstone, what is the time, what was the last token) to the floor's three, and each "
      + "costs several microseconds in a server that has just woken. In the client the section has a fiber and a scope of "
      + "its own, a deadline and a place among the renewals. With many tasks at once both hide behind each other.",
      "- **A hot key** is handed from one process to another, which has to be woken, while a contender of the floor that "
      + "releases takes the lock again by itself: hence its p99. The server answers the one who releases before it tells the "
      + "next, and where both share two cores with it, the former goes first.",
      "- **On etcd** a waiter that hears of its turn looks once whether its own claim still stands before it goes in. Two "
      + "times etcd3's Lock is more than bodies of 5 ms leave room for, where that makes over 100 sections a second."
    ].join("\n"),
    ...whereOf(facts),
    ...historyOf(facts),
    "## How to read it",
    [
      "- **Ratios, not figures.** Clients and servers share one machine here, over the loopback. Another machine gives other "
      + "figures, and much the same ratios. The ratio is taken within each run, and then its median.",
      "- **The floor** is the least that a lock on that server can do: one request to take it, one to give it back. It "
      + "renews nothing, queues nobody and notices no loss. Where the key is hot it polls, which costs it time that a "
      + "library with a queue does not lose: a ratio above 1 is no mistake.",
      "- **Turns.** The processes of all contenders are started, warmed up, and then take short turns, one after the other, "
      + "in an order that each run rotates: what else the machine does hits all alike.",
      "- **A section** is acquire, body, release. The wait is from asking to being in. An empty body does not yield.",
      "- **Most / least** compares how many sections each process had while all ran. A contender that is fair is near 1.",
      "- **p99 / fair share:** with N tasks on one key, whoever asks waits for N bodies when turns are fair.",
      "- **Requests** are a section's as clients sent them, counted at the server: a script is one, with whatever it runs.",
      "- **CPU** is a section's, of the client processes; the server's comes on top, and is the same core for all.",
      "- **Time to live** is 30 s wherever nothing else is said. Retries are each library's defaults, with enough tries not "
      + "to give up.",
      "- On etcd the crowds of waiters and of held locks are left out: its peer cannot wait, and polls by our hand.",
      "- The Redis keeps nothing on disk, the etcd is a single member without fsync: the libraries are compared, not disks."
    ].join("\n")
  ].join("\n\n") + "\n"
}
