import { Inspectable, Logger, References } from "effect"

/** What the library logs, a line each, on standard error. */
export const LogLines = Logger.layer([
  Logger.make(({ fiber, logLevel, message }) => {
    const [text] = Array.isArray(message) ? message : [message]
    const tags = Object.entries(fiber.getRef(References.CurrentLogAnnotations))
      .map(([tag, value]) => `${tag}=${Inspectable.toStringUnknown(value)}`)
    console.error(["  log:", logLevel.toUpperCase(), Inspectable.toStringUnknown(text), ...tags].join(" "))
  })
])
