/** Whether a name has `*` or `>`, and so stands for many topics. */
export const isPattern = (name: string): boolean => /[*>]/.test(name);

/** Whether a pattern stands for the topic `name`: `*` for one token, `>` at the end for one or more. */
export function matches(pattern: string, name: string): boolean {
  const tokens = name.split(".");
  const wanted = pattern.split(".");
  return (
    wanted.every((token, at) => at < tokens.length && (token === "*" || token === ">" || token === tokens[at])) &&
    (wanted.length === tokens.length || wanted.at(-1) === ">")
  );
}
