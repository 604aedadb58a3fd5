/** "4.2 s", "12 s", "3 min 5 s", "2 h 10 min", "3 d 4 h". */
export const durationOf = (millis: number): string => {
  const seconds = Math.max(0, millis) / 1_000
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`
  const whole = Math.floor(seconds)
  if (whole < 60) return `${whole} s`
  if (whole < 3_600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  if (whole < 86_400) return `${Math.floor(whole / 3_600)} h ${Math.floor(whole / 60) % 60} min`
  return `${Math.floor(whole / 86_400)} d ${Math.floor(whole / 3_600) % 24} h`
}

/** In whole seconds, for what is shown in many rows at once. */
export const roughly = (millis: number): string =>
  durationOf(Math.max(0, Math.floor(millis / 1_000)) * 1_000).replace(".0", "")

export const timeOf = (at: number): string => new Date(at).toLocaleTimeString(undefined, { hour12: false })

export const counted = (count: number, one: string, many = `${one}s`): string =>
  `${count.toLocaleString("en")} ${count === 1 ? one : many}`

/** The beginning and the end, which tell keys apart. */
export const clipped = (text: string, most: number): string => {
  const characters = Array.from(text)
  if (characters.length <= most) return text
  const end = Math.floor(most / 3)
  return `${characters.slice(0, most - end - 1).join("")}…${characters.slice(-end).join("")}`
}

export const kindOf = ({ capacity, kind }: { readonly kind?: string; readonly capacity?: number }): string =>
  kind === "semaphore" ? `semaphore of ${capacity ?? "?"}` : kind === "readWrite" ? "read-write lock" : kind ?? "free"
