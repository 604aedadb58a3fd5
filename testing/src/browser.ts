/** A real Chromium without a window. In a file of its own: most tests need none, and loading its driver takes a while. */
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Module from "node:module"
import * as Path from "node:path"
import { promisify } from "node:util"
import { type Browser, chromium } from "playwright-core"

export type { Browser, Locator, Page } from "playwright-core"

const root = Path.resolve(import.meta.dirname, "../..")
const packed = Path.join(
  Path.dirname(Module.createRequire(import.meta.url).resolve("@sparticuz/chromium")),
  "../bin"
)

/** Starts a Chromium. It ends with `close`, and with this process. */
export const startBrowser = async (): Promise<Browser> => {
  const given = process.env.DLOCK_CHROMIUM
  const isGiven = given !== undefined && given !== ""
  if (!isGiven && (process.platform !== "linux" || process.arch !== "x64")) {
    throw new Error("The tests bring a Chromium for Linux on x64 only: set DLOCK_CHROMIUM to the path of one")
  }
  const folder = isGiven ? undefined : await unpacked()
  return chromium.launch({
    executablePath: folder === undefined ? given! : Path.join(folder, "chromium"),
    // The pages come from the tests, and the tests may run as root, with which Chromium has no sandbox.
    args: ["--no-sandbox"],
    ...(folder !== undefined && { env: environmentFor(folder) })
  })
}

/**
 * The folder of the Chromium that comes in a package, compressed. It is unpacked once for all runs, and renamed when it is
 * whole, so that two runs at once find either nothing or all of it.
 */
const unpacked = async (): Promise<string> => {
  const { version } = JSON.parse(Fs.readFileSync(Path.join(packed, "../package.json"), "utf8")) as {
    readonly version: string
  }
  const folder = Path.join(root, ".cache/chromium", version)
  if (Fs.existsSync(folder)) return folder
  Fs.mkdirSync(Path.dirname(folder), { recursive: true })
  const temporary = Fs.mkdtempSync(`${folder}.`)
  // The package unpacks into the system's temporary folder, and keeps for ever what it finds there, whole or not.
  const program = `import { inflate } from "@sparticuz/chromium"
for (const name of ["chromium.br", "al2023.tar.br", "fonts.tar.br"]) await inflate(${
    JSON.stringify(`${packed}/`)
  } + name)`
  await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", program], {
    cwd: Path.join(root, "testing"),
    env: { ...process.env, TMPDIR: temporary }
  })
  try {
    Fs.renameSync(temporary, folder)
  } catch (error) {
    Fs.rmSync(temporary, { recursive: true, force: true })
    if (!Fs.existsSync(folder)) throw error
  }
  return folder
}

/** Where the libraries and the fonts are that a bare machine lacks. The machine's own fonts come after ours. */
const environmentFor = (folder: string): Record<string, string> => {
  const file = Path.join(folder, "fonts.conf")
  const text = `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>${Path.join(folder, "fonts")}</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>${Path.join(folder, "fonts-cache")}</cachedir>
  <alias binding="strong"><family>system-ui</family><prefer><family>Open Sans</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
`
  if (!Fs.existsSync(file)) {
    const temporary = `${file}.${process.pid}`
    Fs.writeFileSync(temporary, text)
    Fs.renameSync(temporary, file)
  }
  return {
    ...process.env as Record<string, string>,
    FONTCONFIG_FILE: file,
    LD_LIBRARY_PATH: [Path.join(folder, "al2023/lib"), process.env.LD_LIBRARY_PATH ?? ""].filter((path) => path !== "")
      .join(":")
  }
}
