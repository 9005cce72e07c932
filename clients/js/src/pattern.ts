/** Whether a name has `*` or `>`, and so stands for many topics. */
export const isPattern = (name: string): boolean => /[*>]/.test(name);

/** Whether a pattern stands for the topic `name`: `*` for one token, `>` at the end for one or more. */
export const matches = (pattern: string, name: string): boolean =>
  new RegExp(
    `^${pattern.replace(/[$+.?^|(){}[\]\\]/g, "\\$&").replace(/\*/g, "[^.]*").replace(">", "[^]*")}$`,
  ).test(name);
