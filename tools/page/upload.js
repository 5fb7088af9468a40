// Searching with a photo: sends it to the server and makes its largest garment the query.

import { detect } from "./api.js";
import { $, showError } from "./dom.js";
import { boxArea, drawPreview, drawQuery } from "./query.js";
import { setQuery, state, stats } from "./state.js";

const SLOW = 4000; // milliseconds after which waiting is explained

let newest = 0; // number of the photo chosen last; answers for earlier ones are dropped
let slowTimer = 0;

export async function searchPhoto(file) {
  showError("");
  if (!stats) return showError("The server did not respond. Reload the page.");
  if (!stats.uploads.possible) return showError("This server accepts no photos. Start from a stored garment.");
  const most = stats.uploads.most_bytes;
  if (file.size > most) return showError(`The photo is larger than ${Math.floor(most / 2 ** 20)} MiB. Choose a smaller one.`);
  const number = ++newest;
  const url = URL.createObjectURL(file);
  showProgress("Sending the photo…", 0);
  drawPreview(url);
  clearTimeout(slowTimer);
  slowTimer = setTimeout(() => showProgress("Still looking. A busy server or a large photo takes a little longer…"), SLOW);
  try {
    const answer = await detect(file, showProgress);
    if (number !== newest) return;
    if (state.upload) URL.revokeObjectURL(state.upload.url);
    state.upload = { url, answer, end: Date.now() + 1000 * answer.expires_in };
    // Most people search for the largest garment.
    const largest = answer.garments.reduce((one, other) => (boxArea(other) > boxArea(one) ? other : one));
    setQuery({ handle: largest.handle });
  } catch (error) {
    if (number !== newest) return;
    showError(error.message);
    drawQuery(); // in place of the photo that failed
  } finally {
    if (state.upload?.url !== url) URL.revokeObjectURL(url); // else the browser keeps the photo in memory
    if (number === newest) {
      clearTimeout(slowTimer);
      $("work").hidden = true;
    }
  }
}

function showProgress(text, share) {
  $("work").hidden = false;
  $("work-text").textContent = text;
  if (share === undefined) $("progress").removeAttribute("value");
  else $("progress").value = share;
}
