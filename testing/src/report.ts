import * as Readline from "node:readline"

/** For programs that `startWorker` runs: tells the test something. It is written before this returns. */
export const report = (message: object): void => void process.stdout.write(`${JSON.stringify(message)}\n`)

/** For programs that `startWorker` runs: hears what the test sends. The process ends when its parent is gone. */
export const onMessage = (listener: (message: unknown) => void): void => {
  Readline.createInterface({ input: process.stdin })
    .on("line", (line) => listener(JSON.parse(line)))
    .on("close", () => process.exit(0))
}
