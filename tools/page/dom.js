// What every module needs: finding and making elements, writing numbers and names, the error line.

export const $ = (id) => document.getElementById(id);

// A new element. Names that contain "-", and "for", are attributes; all others are properties.
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "for") element.setAttribute(name, value);
    else element[name === "class" ? "className" : name] = value;
  }
  element.append(...children);
  return element;
}

export const percent = (share) => `${Math.round(100 * share)} %`;

// Attributes are named as in the database, big_floral, and shown as words.
export const spaced = (name) => name.replaceAll("_", " ");

// A label that has no values is stored as an attribute of that name, with "yes".
export const labelText = (name, value) => (value === "yes" ? spaced(name) : value);

export const pictureUrl = (key, size) => `/api/photo/${encodeURIComponent(key)}?size=${size}`;

// page.css draws the aspect's slider and bars in --hue.
export const setHue = (element, aspect) => element.style.setProperty("--hue", `var(--${aspect}, var(--accent))`);

export function showError(text) {
  $("trouble-text").textContent = text;
  $("trouble").hidden = !text;
}

$("trouble-close").onclick = () => showError("");
