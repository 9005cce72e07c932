// Elements, made without a line of markup: whatever a text holds, it stays text.

export type Child = Node | string | null | undefined | false;
type Value = string | number | boolean | null | undefined | ((event: never) => void);

/** An element with attributes; what begins with "on" is listened to. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, Value> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      element.addEventListener(name.slice(2), value as EventListener);
    } else {
      set(element, name, value);
    }
  }
  element.append(...children.filter((child): child is Node | string => !!child || child === ""));
  return element;
}

/** Sets an attribute, or takes it away, and touches nothing that is as it should be. */
export function set(element: Element, name: string, value: Exclude<Value, Function>): void {
  if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/** Sets a text, and touches nothing that says it already. */
export function say(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** A name from outside: it keeps its blanks, and its direction of writing to itself. */
export function name(text: string): HTMLElement {
  return el("bdi", { class: "name" }, text);
}

/** A drawing of lines on 24 by 24, for those who see. */
export function icon(path: string): SVGSVGElement {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const line = document.createElementNS(space, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/**
 * Makes the children of `parent` those of `items`, in their order. Elements of items that stay are
 * kept, and moved only where they must be, so that focus and selection survive.
 */
export function keyed<T>(
  parent: Element,
  items: readonly T[],
  key: (item: T) => string,
  make: (item: T) => HTMLElement,
  update: (element: HTMLElement, item: T) => void,
): void {
  const known = kept.get(parent) ?? new Map<string, HTMLElement>();
  const next = new Map<string, HTMLElement>();
  for (const item of items) {
    const id = key(item);
    next.set(id, known.get(id) ?? make(item));
  }
  for (const [id, element] of known) if (!next.has(id)) element.remove();
  let place = parent.firstElementChild;
  for (const item of items) {
    const element = next.get(key(item))!;
    update(element, item);
    if (element === place) {
      place = place.nextElementSibling;
    } else {
      parent.insertBefore(element, place);
    }
  }
  kept.set(parent, next);
}

const kept = new WeakMap<Element, Map<string, HTMLElement>>();
