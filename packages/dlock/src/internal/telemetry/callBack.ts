/**
 * Runs a callback that resumes a fiber outside this package. The fiber runs within this call, and an observer of its
 * end may throw. The error is logged, so that the other callbacks still run.
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
