import { Session } from "node:inspector/promises"

/** Where the thread of a process was, in milliseconds. */
export type Profile = Readonly<Record<string, number>>

interface CpuProfile {
  readonly nodes: ReadonlyArray<
    { readonly id: number; readonly callFrame: { readonly functionName: string; readonly url: string } }
  >
  readonly samples: ReadonlyArray<number>
  /** Microseconds. */
  readonly timeDeltas: ReadonlyArray<number>
}

/** Whose code a function is: its own time counts for them, and not what it calls. */
export const partOf = (functionName: string, url: string): string => {
  if (functionName === "(idle)") return "waiting"
  if (functionName === "(garbage collector)") return "garbage collection"
  if (/\/packages\/dlock-[a-z]+\/|\/effect-dlock-[a-z]+\//.test(url)) return "our store"
  if (/\/packages\/dlock\/|\/effect-dlock\//.test(url)) return "our core"
  if (/\/node_modules\/effect\//.test(url)) return "Effect"
  if (/\/node_modules\//.test(url)) return "the client"
  if (/\/bench\//.test(url)) return "the benchmark"
  return "Node.js"
}

/** Runs something, and where the thread was meanwhile. */
export const profiled = async <A>(
  run: () => Promise<A>
): Promise<{ readonly result: A; readonly profile: Profile }> => {
  const session = new Session()
  session.connect()
  await session.post("Profiler.enable")
  await session.post("Profiler.setSamplingInterval", { interval: 200 })
  await session.post("Profiler.start")
  const result = await run()
  const { nodes, samples, timeDeltas } = (await session.post("Profiler.stop")).profile as CpuProfile
  session.disconnect()
  const parts = new Map(nodes.map(({ callFrame: { functionName, url }, id }) => [id, partOf(functionName, url)]))
  const profile: Record<string, number> = {}
  samples.forEach((id, index) => {
    const part = parts.get(id)!
    profile[part] = (profile[part] ?? 0) + timeDeltas[index]! / 1_000
  })
  return { result, profile }
}
