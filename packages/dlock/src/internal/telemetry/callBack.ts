/**
 * Calls back into code that is not ours: a fiber that is resumed runs on within that call, and an observer of its end may
 * throw. What it throws is logged, and must not keep others from being called.
 */
export const callBack = (
  events: { readonly observerThrew: (error: unknown, key?: string) => void },
  callback: () => void,
  key?: string
): void => {
  try {
    callback()
  } catch (error) {
    events.observerThrew(error, key)
  }
}
