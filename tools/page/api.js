// Requests to the server. A request that needs the token asks for it once and is repeated; one that
// meets a busy server is repeated when the server says so.

import { $ } from "./dom.js";

const MOST_RETRIES = 3;

class RequestError extends Error {
  // `status` is 0 if the server did not respond.
  constructor(text, status = 0) {
    super(text);
    this.status = status;
  }
}

const postJson = (body) => ({
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
});

// GET, or POST if there is a body. Returns the response's JSON or throws a RequestError.
export async function request(path, body) {
  const options = body === undefined ? {} : postJson(body);
  for (let retries = 0; ; retries++) {
    let response;
    try {
      response = await fetch(path, options);
    } catch {
      throw new RequestError("The server does not respond. Is it still running?");
    }
    if (await shouldRetry(response.status, response.headers.get("Retry-After"), retries)) continue;
    return parse(response.status, await response.text());
  }
}

// Send a photo to have its garments detected. `report(text, share)` is called as it proceeds.
export async function detect(file, report) {
  for (let retries = 0; ; retries++) {
    const { status, responseText, wait } = await upload(file, report);
    if (status === 503) report("The server is busy. Waiting for a turn…");
    if (!(await shouldRetry(status, wait, retries))) return parse(status, responseText);
  }
}

// XMLHttpRequest, because fetch() does not report upload progress.
function upload(file, report) {
  return new Promise((resolve, reject) => {
    const sent = new XMLHttpRequest();
    sent.open("POST", "/api/detect");
    sent.setRequestHeader("Content-Type", file.type.startsWith("image/") ? file.type : "image/*");
    sent.upload.onprogress = (event) => {
      if (event.lengthComputable && event.loaded < event.total) report("Sending the photo…", event.loaded / event.total);
    };
    sent.upload.onload = () => report("Looking for garments…");
    sent.onload = () => {
      const { status, responseText } = sent;
      resolve({ status, responseText, wait: sent.getResponseHeader("Retry-After") });
    };
    sent.onerror = () => reject(new RequestError("The photo could not be sent. Is the server still running?"));
    sent.send(file);
  });
}

// Returns when it is time to retry: after log-in, or after the seconds that a busy server asks for.
async function shouldRetry(status, wait, retries) {
  if (status === 401) {
    await logIn();
    return true;
  }
  if (status !== 503 || retries >= MOST_RETRIES) return false;
  await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(Number(wait) || 1, 30)));
  return true;
}

function parse(status, text) {
  let answer = null;
  try {
    answer = text ? JSON.parse(text) : null;
  } catch {
    throw new RequestError("The server sent an invalid response. Reload the page", status);
  }
  if (status < 200 || status > 299) throw new RequestError(answer?.detail ?? `Error ${status}`, status);
  return answer;
}

// One dialog for all requests that wait for the token.
let loggingIn = null;
function logIn() {
  loggingIn ??= new Promise((resolve) => {
    $("login-form").onsubmit = async (event) => {
      event.preventDefault();
      const response = await fetch("/api/session", postJson({ token: $("token").value })).catch(() => null);
      if (!response?.ok) {
        $("login-error").textContent = response ? "That is not the token." : "The server does not respond.";
        return;
      }
      $("token").value = $("login-error").textContent = "";
      loggingIn = null;
      $("login").close();
      resolve();
    };
    // If closed by Escape, the dialog reopens, because pending requests need the token.
    $("login").onclose = () => loggingIn && $("login").showModal();
    $("login").showModal();
  });
  return loggingIn;
}
