// Every address is a whole page that works without this file. This file opens dialogs over the
// page, updates lists while somebody types, and keeps pages up to date. `drafts.js` keeps what was typed
// when the session has ended.

const dialog = document.getElementById("dialog");
const toast = document.getElementById("toast");
const LIVE_MS = 1000; // reload at most once a second, however many events arrive
const POLL_MS = 5000; // used while the event stream is away
const TYPING_MS = 250;

// XMLHttpRequest parses HTML with scripts disabled, so this file never turns a string into markup.
function send(address, { form, button, fields, byPerson = true } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(form || fields ? "POST" : "GET", address);
    request.responseType = "document";
    request.setRequestHeader("Accept", "text/html");
    if (!byPerson) request.setRequestHeader("X-Background", "1"); // it must not keep a session alive
    request.onload = () => {
      const { response: page, responseURL: from, status } = request;
      if (!page) reject(new Error(`The service sent an unreadable answer (${status})`));
      else if (new URL(from).pathname !== "/sign-in") resolve({ page, address: from, status });
      else if (document.dispatchEvent(new CustomEvent("signed-out", { cancelable: true, detail: { form, address } })))
        reject(new Error("You are signed out. Sign in in another tab"));
      // else: the tab is on its way to the sign-in page
    };
    request.onerror = () => reject(new Error("The service does not answer"));
    const sent = form ? new FormData(form, button) : fields;
    request.send(sent ? new URLSearchParams(sent) : null);
  });
}

async function load(address, options = {}) {
  const search = options.form ? null : searchIn(address);
  if (!search) return send(address, options);
  const ask = () => send("/", { ...options, fields: { ...search, csrf: document.body.dataset.csrf ?? "" } });
  const answer = await ask();
  const { csrf } = answer.page.body.dataset;
  if (answer.status !== 403 || !csrf || csrf === document.body.dataset.csrf) return answer;
  document.body.dataset.csrf = csrf; // the person has signed in again in another tab
  return ask();
}

// What somebody searches for stands after the # of an address. Browsers do not send that part, so no
// log of a proxy shows it. Return the whole query of such an address; null if nothing is searched.
function searchIn(address) {
  const { pathname, searchParams, hash } = new URL(address, location.href);
  const q = pathname === "/" && new URLSearchParams(hash.slice(1)).get("q");
  return q ? { ...Object.fromEntries(searchParams), q } : null;
}

function samePage(one, other) {
  return withoutHash(one) === withoutHash(other) && searchIn(one)?.q === searchIn(other)?.q;
}

function say(words) {
  (dialog.open ? dialog : document.body).append(toast); // an open dialog makes all else inert
  toast.textContent = "";
  if (words) requestAnimationFrame(() => (toast.textContent = words));
}

function withoutHash(address) {
  return address.split("#")[0];
}

function adopt(element) {
  return document.adoptNode(element);
}

// Pages that stay up to date ------------------------------------------------------------------------

const live = () => document.querySelectorAll("[data-live]");
let stale = false;
let refreshing = null;
let pressed = false; // replacing a link between press and release would lose the click

async function refresh() {
  if (refreshing || dialog.open || document.hidden || pressed) {
    stale = true;
    return;
  }
  stale = false;
  refreshing = (async () => {
    try {
      const asked = shown;
      const { page, address, status } = await load(asked, { byPerson: false });
      stale ||= pressed || asked !== shown; // somebody has filtered the list meanwhile
      if (status !== 200 || dialog.open || pressed || asked !== shown || new URL(address).pathname !== new URL(shown).pathname) return;
      for (const old of live()) {
        const fresh = page.getElementById(old.id);
        if (old.querySelector(".pick :checked")) continue; // in a fresh list nobody would be selected
        if (fresh && !old.contains(document.activeElement)) old.replaceWith(adopt(fresh));
        else if (fresh) keepFocus(old, fresh);
      }
      document.documentElement.classList.remove("searching");
      delete document.body.dataset.stale;
    } catch {
      document.body.dataset.stale = "yes";
    }
  })();
  await refreshing;
  await new Promise((resolve) => setTimeout(resolve, LIVE_MS));
  refreshing = null;
  if (stale || document.querySelector("[data-poll]")) refresh();
}

function keepFocus(old, fresh) {
  const focused = document.activeElement;
  const { id } = focused;
  const href = focused.getAttribute("href");
  old.replaceWith(adopt(fresh));
  const again = id
    ? document.getElementById(id)
    : href && [...fresh.querySelectorAll("a")].find((a) => a.getAttribute("href") === href);
  again?.focus({ preventScroll: true });
}

function follow() {
  if (!live().length) return;
  let poll = null;
  const source = new EventSource("/api/v1/activity/stream");
  source.onmessage = refresh;
  source.onopen = () => {
    clearInterval(poll);
    poll = null;
    refresh(); // events may have come meanwhile
  };
  source.onerror = () => (poll ??= setInterval(refresh, POLL_MS));
  document.addEventListener("visibilitychange", () => stale && refresh());
  addEventListener("pointerdown", (event) => (pressed = !event.button));
  for (const end of ["pointerup", "pointercancel"])
    addEventListener(end, () => setTimeout(() => ((pressed = false), stale && refresh()))); // once the click is handled
  dialog.addEventListener("close", () => stale && refresh());
  if (document.querySelector("[data-poll]")) refresh();
}

// Dialogs ----------------------------------------------------------------------------------------

let shown = location.href; // the address of the page below an open dialog
let typed = false;
if (history.state?.dialog) history.replaceState(null, ""); // after a reload the dialog is a page of its own

function openWith(page, again = false) {
  const body = page.querySelector("[data-dialog-body]");
  if (!body) return false;
  const scrolled = again ? dialog.firstElementChild?.scrollTop : 0;
  dialog.replaceChildren(adopt(body));
  dialog.setAttribute("aria-label", body.querySelector("h1").textContent);
  typed = false;
  if (!dialog.open) dialog.showModal();
  body.scrollTop = scrolled;
  const first = body.querySelector("[aria-invalid=true]") ?? body.querySelector("[autofocus]");
  const target = location.hash && body.querySelector(`#${CSS.escape(location.hash.slice(1))}`);
  (first ?? (target || body.querySelector("h1"))).focus({ preventScroll: again && !first });
  goOn(dialog);
  return true;
}

// Work that takes longer than a request: the page says how far it is, and asks for the next step.
const goOn = (within) => within.querySelector("form[data-continue]")?.requestSubmit();

function replaceMain(page, address) {
  const main = page.getElementById("main");
  document.getElementById("main").replaceWith(adopt(main));
  document.title = page.title;
  shown = address;
}

async function openDialog(address, push = true) {
  try {
    const answer = await load(address);
    if (!answer.page.querySelector("[data-dialog-body]")) return location.assign(address);
    const again = dialog.open && new URL(address).pathname === location.pathname;
    if (push) history[history.state?.dialog ? "replaceState" : "pushState"]({ dialog: true }, "", address);
    openWith(answer.page, again);
  } catch (error) {
    say(`${error.message}. Try again.`);
  }
}

function closeDialog() {
  if (typed && !confirm("Close without saving your changes?")) return;
  if (history.state?.dialog) history.back();
  else dialog.close();
}

addEventListener("popstate", () => {
  if (history.state?.dialog) openDialog(location.href, false);
  else {
    dialog.close();
    if (!samePage(location.href, shown)) location.reload();
  }
});
dialog.addEventListener("cancel", (event) => {
  event.preventDefault();
  closeDialog();
});
dialog.addEventListener("click", (event) => event.target === dialog && closeDialog());
dialog.addEventListener("input", () => (typed = true));

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-dialog], a[data-close]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  if (link.matches("[data-close]")) {
    if (!dialog.open) return;
    event.preventDefault();
    closeDialog();
    return;
  }
  if (link.dataset.dialog === "same" && !dialog.contains(link)) return;
  event.preventDefault();
  openDialog(link.href);
});
dialog.addEventListener("close", () => document.body.append(toast));

async function post(form, button) {
  const where = button?.hasAttribute("formaction") ? button.formAction : form.action;
  const send = () => load(where, { form, button });
  let answer = await send();
  if (answer.status === 403) {
    const { csrf } = (await load(location.href)).page.body.dataset;
    if (csrf && form.elements.csrf && form.elements.csrf.value !== csrf) {
      form.elements.csrf.value = csrf; // the person has signed in again in another tab
      answer = await send();
    }
  }
  if (answer.status >= 400 && ![404, 409, 422].includes(answer.status))
    throw new Error(answer.page.querySelector("main p")?.textContent ?? `The service refused this (${answer.status})`);
  return answer;
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.matches("[data-view]")) {
    form.elements.back.value = location.pathname === "/shortcuts" ? "/" : location.pathname + location.search + location.hash;
    return; // the whole page will look otherwise, so the browser sends it
  }
  if (form.method !== "post" || !form.closest("#dialog, [data-dialog]")) return;
  event.preventDefault();
  const button = event.submitter;
  try {
    const answer = post(form, button);
    button?.setAttribute("disabled", "");
    const { page, address, status } = await answer;
    if (status < 400) stale = true;
    if (form.matches("[data-continue]") && !dialog.open) return; // the person has closed the dialog
    const path = new URL(address).pathname;
    if (history.state?.dialog && status < 400 && path === new URL(shown).pathname) {
      replaceMain((await load(shown)).page, shown);
      history.back();
      await new Promise((resolve) => addEventListener("popstate", resolve, { once: true }));
    } else if (page.querySelector("[data-dialog-body]")) {
      const again = path === location.pathname;
      if (history.state?.dialog && status < 400) history.replaceState(history.state, "", address);
      openWith(page, again);
      button?.removeAttribute("disabled");
      typed = status >= 400;
    } else {
      dialog.close();
      const faulty = page.querySelector("[aria-invalid=true], [role=alert]");
      replaceMain(page, faulty ? shown : address);
      history.replaceState(null, "", shown);
      faulty?.focus();
    }
    say(page.getElementById("toast")?.textContent);
  } catch (error) {
    button?.removeAttribute("disabled");
    say(`${error.message.replace(/\.$/, "")}. What you typed is still here. Try again.`);
  }
});

// Lists that update while somebody types -----------------------------------------------------------

let timer = null;
let latest = 0;

async function filter(form, button) {
  if (button?.name === "without") takeAway(form, button.value);
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form, button?.name === "without" ? null : button))
    if (value && name !== "csrf" && !name.startsWith("pick.")) query.set(name, name === "segment" && query.has(name) ? `${query.get(name)},${value}` : value);
  const address = new URL("/", location.href);
  if (query.has("q")) address.hash = new URLSearchParams({ q: query.get("q") });
  query.delete("q");
  address.search = query;
  if (!(await showList(address.href))) return;
  if (button?.name === "sort") form.querySelector("select[name=sort]").value = button.value === "-dateCreated" ? "" : button.value;
  const toPage = button?.name || form.matches("[data-jump]");
  history[toPage ? "pushState" : "replaceState"](null, "", address);
}

// Empty the controls of a filter.
function takeAway(form, name) {
  for (const control of form.elements)
    if (control.name !== name) continue;
    else if (control.type === "checkbox") control.checked = false;
    else control.value = "";
}

// Returns whether the list is shown.
async function showList(address) {
  const turn = ++latest;
  try {
    const { page, status } = await load(address);
    if (turn !== latest) return false; // the person has typed more
    if (![200, 422].includes(status)) throw new Error(page.querySelector("main p")?.textContent ?? `The service refused this (${status})`);
    for (const part of document.querySelectorAll("[data-results]")) {
      const fresh = page.getElementById(part.id);
      if (fresh) part.replaceWith(adopt(fresh));
    }
    for (const control of document.querySelectorAll("form[data-filter] [name]")) {
      const invalid = page.getElementById(control.id)?.getAttribute("aria-invalid");
      if (invalid) control.setAttribute("aria-invalid", invalid);
      else control.removeAttribute("aria-invalid");
    }
    document.documentElement.classList.remove("searching");
    shown = address;
    return true;
  } catch (error) {
    say(`${error.message.replace(/\.$/, "")}. Try again.`);
    return false;
  }
}

document.addEventListener("input", (event) => {
  const { form } = event.target;
  if (event.target.closest(".pick")) {
    const all = event.target.matches("[data-all]");
    if (all) for (const box of document.querySelectorAll("td.pick input")) box.checked = event.target.checked;
    else document.querySelector("[data-all]").checked = !document.querySelector("td.pick input:not(:checked)");
    return;
  }
  if (!form?.matches("[data-filter]")) return;
  clearTimeout(timer);
  const typing = event.target.matches("input:not([type=checkbox], [type=radio])");
  timer = setTimeout(() => filter(form), typing ? TYPING_MS : 0);
});
document.addEventListener("submit", (event) => {
  if (!event.target.matches("form:is([data-filter], [data-jump])") || event.submitter?.hasAttribute("formaction")) return;
  event.preventDefault();
  clearTimeout(timer);
  filter(event.target, event.submitter);
});

// An address with a search, from a bookmark or by the back button. The sign-in page may come first;
// the part after the # is kept for the page after it.
const KEPT = "searched";
if (location.pathname === "/sign-in") {
  if (location.hash.startsWith("#q=")) sessionStorage.setItem(KEPT, location.hash);
} else {
  const kept = sessionStorage.getItem(KEPT);
  sessionStorage.removeItem(KEPT);
  if (kept && location.pathname === "/" && !location.hash) history.replaceState(null, "", kept);
  const search = searchIn(location.href);
  if (search) {
    document.documentElement.classList.add("searching");
    document.getElementById("q").value = search.q;
    shown = location.href;
    showList(shown);
  }
}

// Shortcuts -----------------------------------------------------------------------------------------

function move(way) {
  const names = [...document.querySelectorAll("#results a.name")];
  const at = names.findIndex((name) => name.closest("tr").contains(document.activeElement));
  const next = at < 0 ? names.at(way < 0 ? -1 : 0) : names[at + way];
  next?.focus();
  return next;
}

const edit = (within) => within?.querySelector("a[href$='/edit']");
const KEYS = {
  "/": () => {
    const search = document.getElementById("q");
    search?.focus();
    return search;
  },
  "?": () => openDialog("/shortcuts"),
  j: () => move(1),
  k: () => move(-1),
  e: () => {
    const link = edit(document.activeElement.closest("tr")) ?? edit(document.querySelector("main > .sheet"));
    link?.click();
    return link;
  },
};

document.addEventListener("keydown", (event) => {
  if (!("keys" in document.body.dataset) || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target.closest("input:not([type=checkbox], [type=radio]), textarea, select")) return;
  if (dialog.open) {
    if (event.key === "e") edit(dialog)?.click();
  } else if (Object.hasOwn(KEYS, event.key) && KEYS[event.key]()) event.preventDefault();
});

// How much waits for somebody, beside a page's name. No page waits for this figure.
for (const place of document.querySelectorAll("[data-count]")) {
  const request = new XMLHttpRequest();
  request.open("GET", place.dataset.count);
  request.setRequestHeader("X-Background", "1");
  request.onload = () => {
    const waiting = request.status === 200 && Number(request.responseText);
    place.hidden = !waiting;
    if (waiting) place.textContent = waiting.toLocaleString(document.documentElement.lang);
  };
  request.send();
}

// The browser's time zone, offered as the store's ------------------------------------------------

for (const offer of document.querySelectorAll("[data-browser-zone]")) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const select = document.getElementById(offer.dataset.browserZone);
  if (select.value === zone || ![...select.options].some(({ value }) => value === zone)) continue;
  offer.querySelector("b").textContent = zone;
  offer.querySelector("button").addEventListener("click", () => {
    select.value = zone;
    offer.hidden = true;
  });
  offer.hidden = false;
}

// A file to import: when it was changed last, and whether it is too large to be sent -------------------

for (const chosen of document.querySelectorAll("input[type=file]")) {
  const says = document.getElementById(chosen.getAttribute("aria-describedby"));
  const hint = says.textContent;
  chosen.addEventListener("change", () => {
    const [file] = chosen.files;
    chosen.form.elements.changedAt.value = file?.lastModified ?? "";
    const tooLarge = file && file.size > Number(chosen.dataset.largest);
    const fault = tooLarge
      ? "This file is too large to be sent. Compress it as zip, or import it with crm import on the service’s machine."
      : "";
    chosen.setCustomValidity(fault);
    chosen.toggleAttribute("aria-invalid", Boolean(fault));
    says.className = fault ? "fault" : "hint";
    says.textContent = fault || hint;
  });
}

document.documentElement.classList.add("scripted");
goOn(document);
follow();
