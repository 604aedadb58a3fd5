import * as Net from "node:net"
import * as Readline from "node:readline"
import type { Told } from "./events.ts"

/** The connection of one process to the resource. Reports and questions arrive in their order. */
export class ResourceClient {
  private readonly waiting = new Map<number, (value: unknown) => void>()
  private readonly socket: Net.Socket
  private next = 0

  private constructor(socket: Net.Socket, who: string) {
    this.socket = socket
    socket.setNoDelay(true).on("error", () => {})
    Readline.createInterface({ input: socket }).on("line", (text) => {
      const { n, value } = JSON.parse(text) as { readonly n: number; readonly value: unknown }
      this.waiting.get(n)?.(value)
      this.waiting.delete(n)
    }).on("error", () => {})
    this.write({ hello: who })
  }

  static open(port: number, who: string): Promise<ResourceClient> {
    return new Promise((resolve, reject) => {
      const socket = Net.connect(port, "127.0.0.1", () => resolve(new ResourceClient(socket, who))).once(
        "error",
        reject
      )
    })
  }

  tell(told: Told): void {
    this.write({ e: told })
  }

  /** Reports a step and learns whether the resource accepts it. */
  ask(told: Told, answered: (accepted: boolean) => void): void {
    this.await((value) => answered(value === true), (n) => ({ e: told, n }))
  }

  query<A>(q: "present" | "state" | "settle"): Promise<A> {
    return new Promise((resolve) => this.await((value) => resolve(value as A), (n) => ({ q, n })))
  }

  close(): void {
    this.socket.end()
  }

  private await(answered: (value: unknown) => void, line: (n: number) => object): void {
    const n = this.next++
    this.waiting.set(n, answered)
    this.write(line(n))
  }

  private write(line: object): void {
    this.socket.write(`${JSON.stringify(line)}\n`)
  }
}
