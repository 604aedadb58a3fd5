// Writes the manual page of the command line, packages/dlock-cli/man/dlock.1, from the help of its commands:
// `node scripts/man.ts`, or with `--check` fails if the page is not current.
import { NodeServices } from "@effect/platform-node"
import { Console, Effect, Option } from "effect"
import { command } from "effect-dlock-cli"
import { CliOutput, Command, type HelpDoc } from "effect/cli"
import * as Fs from "node:fs"
import * as Path from "node:path"

const file = Path.resolve(import.meta.dirname, "../packages/dlock-cli/man/dlock.1")

/** The help of a command, as the parser tells it. */
const helpOf = (path: ReadonlyArray<string>): Effect.Effect<HelpDoc.HelpDoc> =>
  Effect.suspend(() => {
    let help: HelpDoc.HelpDoc | undefined
    const presenter: CliOutput.Presenter = {
      present: (event) => Effect.sync(() => void (help = event._tag === "Version" ? undefined : event.helpDoc))
    }
    return Command.runWith(command, { version: "" })([...path, "--help"]).pipe(
      Effect.provideService(CliOutput.Presenter, presenter),
      Effect.provide(NodeServices.layer),
      Effect.ignore,
      Effect.map(() => {
        if (help === undefined) throw new Error(`dlock ${path.join(" ")} has no help`)
        return help
      })
    ) as Effect.Effect<HelpDoc.HelpDoc>
  })

/** A text as roff takes it: no request at the start of a line, no hyphen that a copy of an example would not have. */
const roff = (text: string): string =>
  text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll(/^([.'])/gm, "\\&$1").replaceAll("…", "\\[u2026]")

const bold = (text: string): string => `\\fB${roff(text)}\\fR`
const italic = (text: string): string => `\\fI${roff(text)}\\fR`

const sentence = (text: string): string => roff(/[.!?]$/.test(text) ? text : `${text}.`)

const metavarOf = ({ type }: HelpDoc.FlagDoc): string => {
  if (type === "boolean") return ""
  return ` ${italic(type.replace(/^<(.*)>$/, "$1").replace(/^choice$/, "value"))}`
}

const flag = (doc: HelpDoc.FlagDoc): ReadonlyArray<string> => [
  ".TP",
  [...doc.aliases, `--${doc.name}`].map(bold).join(", ") + metavarOf(doc),
  sentence(Option.getOrElse(doc.description, () => ""))
]

const argument = ({ name, variadic }: HelpDoc.ArgDoc): string => italic(name) + (variadic ? " ..." : "")

const section = (name: string, lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  lines.length === 0 ? [] : [`.SH ${name}`, ...lines]

const commandSection = (path: ReadonlyArray<string>, help: HelpDoc.HelpDoc): ReadonlyArray<string> => [
  `.SS dlock ${path.map(roff).join(" ")}`,
  sentence(help.description),
  ".PP",
  roff(help.usage),
  ...(help.args ?? []).flatMap((doc) => [
    ".TP",
    argument(doc),
    sentence(Option.getOrElse(doc.description, () => ""))
  ]),
  ...help.flags.flatMap(flag),
  ...(help.examples ?? []).flatMap(({ command, description }) => [
    ".PP",
    description === undefined ? "" : `${roff(description)}${/[.!?]$/.test(description) ? "" : ":"}`,
    ".PP",
    ".RS 4",
    ".nf",
    roff(command),
    ".fi",
    ".RE"
  ])
]

/** The help of a command and of those below it. */
const sections = (path: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<string>> =>
  Effect.gen(function*() {
    const help = yield* helpOf(path)
    const own = path.length === 0 ? [] : commandSection(path, help)
    const below: Array<string> = []
    for (const { commands } of help.subcommands ?? []) {
      for (const { name } of commands) below.push(...yield* sections([...path, name]))
    }
    return [...own, ...below]
  })

/** As in docs/command-line.md. */
const exits: ReadonlyArray<readonly [code: string, meaning: string]> = [
  ["0", "The call succeeded."],
  ["1", "The answer is no: a check found something, or there was nothing to take away."],
  ["64", "The arguments make no sense, or a confirmation is missing."],
  ["69", "The server does not answer, or refuses."],
  ["70", "A defect of dlock."],
  ["74", "take: the handle cannot be written, and the lock is released."],
  ["75", "The lock is held by another."],
  ["76", "The lock was lost while the command ran."],
  ["78", "A variable of the configuration is missing or invalid."],
  ["126, 127", "The command cannot be run, or was not found."],
  ["128 + n", "The command ended by the signal n."]
]

const variables: ReadonlyArray<readonly [name: string, meaning: string]> = [
  ["DLOCK_DRIVER", "The backend: redis, etcd or memory. Default: the one whose address is set."],
  ["DLOCK_REDIS_URL", "The address of a Redis or Valkey, for example redis://127.0.0.1:6379."],
  ["DLOCK_REDIS_SENTINELS, DLOCK_REDIS_CLUSTER", "The same behind sentinels, or of a cluster."],
  ["DLOCK_ETCD_HOSTS", "The addresses of an etcd, with commas between them."],
  ["DLOCK_PREFIX", "The text before every key at the backend. Default: dlock:."],
  ["DLOCK_HOLDER", "The name that others see. Default: the name of the host and the process id."],
  [
    "DLOCK_DEFAULT_TTL, DLOCK_GUARD_GAP",
    "How long a lock lasts without a renewal, and how much longer the backend keeps it."
  ],
  ["NO_COLOR, FORCE_COLOR", "No colours, or colours also where there is no terminal."]
]

const listed = (rows: ReadonlyArray<readonly [string, string]>): ReadonlyArray<string> =>
  rows.flatMap(([name, meaning]) => [".TP", bold(name), roff(meaning)])

const page = Effect.gen(function*() {
  const help = yield* helpOf([])
  const lines = [
    ".\\\" Made by scripts/man.ts from the help of the commands.",
    ".TH DLOCK 1 \"\" dlock \"User Commands\"",
    ...section("NAME", [`dlock \\- ${roff(help.description.replace(/^D/, "d"))}`]),
    ...section("SYNOPSIS", [`${bold("dlock")} ${italic("command")} [${italic("flags")}] ${italic("arguments")}`]),
    ...section("OPTIONS", [
      "They are the same for every command, and stand before or after its name.",
      ...help.flags.flatMap(flag),
      ...(help.globalFlags ?? []).flatMap(flag)
    ]),
    ...section("COMMANDS", yield* sections([])),
    ...section("EXIT STATUS", listed(exits)),
    ...section("ENVIRONMENT", [
      "All variables of the library are read. The first of them:",
      ...listed(variables)
    ]),
    ...section("SEE ALSO", [
      `${bold("flock")}(1), ${bold("etcdctl")}(1)`,
      ".PP",
      roff("https://github.com/effect-dlock/effect-dlock#readme")
    ])
  ]
  return `${lines.filter((line) => line !== "").join("\n")}\n`
})

const program = Effect.gen(function*() {
  const text = yield* page
  if (!process.argv.includes("--check")) {
    Fs.mkdirSync(Path.dirname(file), { recursive: true })
    Fs.writeFileSync(file, text)
    return yield* Console.log(`${Path.relative(process.cwd(), file)}: ${text.split("\n").length} lines`)
  }
  if (!Fs.existsSync(file) || Fs.readFileSync(file, "utf8") !== text) {
    return yield* Effect.fail(new Error("the manual page is not current: run node scripts/man.ts"))
  }
})

await Effect.runPromise(program)
