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
    ...(violations > 0
      ? [`${contender.name}: **more holders at once than the lock allows, ${violations} times**`]
      : []),
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
    "Complete runs, each with the code of its date. Compare figures within a column, because the processor changes "
    + "the ratios too.",
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
    }, in a process that does nothing else. The time of a function `
    + "does not include the functions that it calls. It includes the cost of the profiler.",
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
    "What a lock costs, compared with the libraries that people use today. One command runs all of them, in the "
    + "same run and on the same servers, and writes this page.",
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
      ? "In every workload the benchmark checks how many holders are inside. There were never more than the lock allows."
      : "In every workload the benchmark checks how many holders are inside. There were more than the lock allows where "
        + "a table says so.",
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
    "What effect-dlock does and the floor does not, and where the cost shows. The targets were set before this was "
    + "known, and have not been changed.",
    [
      "- **One task** waits for the server twice in each section, and has no other work while it waits. Inside the "
      + "server, our scripts make seven calls, and the floor makes three. Ours also ask for the queue, a "
      + "tombstone, the time and the last token, and each call takes several microseconds in a server that has "
      + "just woken up. In the client, each section has its own fiber and scope, a deadline, and an entry among "
      + "the renewals. With many tasks at once, the work of the client and of the server overlaps.",
      "- **A hot key** is handed over to another process, and that process has to wake up first. In the floor, a "
      + "process that releases the lock often takes it again at once, which explains the floor's high p99. The "
      + "server answers the process that releases before it notifies the next holder. If both share two cores "
      + "with the server, the process that releases runs first.",
      "- **On etcd**, bodies of 5 ms allow at most 200 sections a second. So twice as many sections as etcd3's Lock is out "
      + "of reach where that makes more than 100."
    ].join("\n"),
    ...whereOf(facts),
    ...historyOf(facts),
    "## How to read it",
    [
      "- **Ratios, not figures.** Clients and servers share one machine here, over the loopback interface. Another "
      + "machine gives other figures, but similar ratios. A ratio is computed within each run, and the table "
      + "shows the median of the runs.",
      "- **The floor** is the least that a lock on that server can do: one request to acquire and one to release. "
      + "It renews nothing, has no queue and notices no loss. On a hot key it polls, and loses time that a "
      + "library with a queue does not lose. So a ratio above 1 is possible.",
      "- **Turns.** The benchmark starts the processes of all contenders and warms them up. Then they take short "
      + "turns, one after the other, in an order that each run rotates. So other work of the machine affects "
      + "all of them alike.",
      "- **A section** is acquire, body, release. The wait is the time from the request to the start of the body. "
      + "An empty body does not yield.",
      "- **Most / least** compares how many sections each process completed while all processes ran. A fair "
      + "contender is near 1.",
      "- **p99 / fair share:** with N tasks on one key and fair turns, each request waits for N bodies.",
      "- **Requests** are the requests that clients sent for one section, counted at the server. A script counts "
      + "as one, whatever it calls.",
      "- **CPU** is the processor time of the client processes for one section. The server's time is not included, "
      + "and the server uses the same core for all contenders.",
      "- **The ttl** is 30 s, unless a workload says otherwise. Retries are the defaults of each library, with "
      + "enough attempts that it does not give up.",
      "- On etcd there is no workload with many waiters or many held locks, because etcd3's Lock cannot wait. The "
      + "benchmark polls on its behalf.",
      "- Redis writes nothing to disk, and etcd is a single member without fsync, because this compares libraries "
      + "and not disks."
    ].join("\n")
  ].join("\n\n") + "\n"
}
