// When the session has ended, the tab goes to the sign-in page and comes back. What was typed waits in
// the tab's own storage meanwhile: it is not sent anywhere, and is gone when the tab is closed.

const KEY = "crm-draft";
const { user } = document.body.dataset;
const path = (address) => new URL(address, location).pathname + new URL(address, location).search;
const store = (draft) => sessionStorage.setItem(KEY, JSON.stringify(draft));
const forget = () => sessionStorage.removeItem(KEY);

function stored() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null; // the browser stores nothing
  }
}

function controls(form) {
  return [...form.elements].filter(({ name, type }) => name && name !== "csrf" && !["submit", "file"].includes(type));
}

function keep(form) {
  const chosen = new FormData(form);
  const fields = controls(form)
    .filter(({ name }) => chosen.get(`take.${name}`) !== "theirs") // in a conflict: the value that was given up
    .map(({ name, type, value, checked }) => ({ name, type, value, checked }));
  if (fields.length) store({ user, address: path(location), action: form.action, fields });
}

function touched(control) {
  if (control.hasAttribute("aria-invalid")) return true;
  if (control.type === "checkbox" || control.type === "radio") return control.checked !== control.defaultChecked;
  if (control.type !== "select-one") return control.type !== "hidden" && control.value !== control.defaultValue;
  const initial = [...control.options].findIndex((option) => option.defaultSelected);
  return control.selectedIndex !== Math.max(initial, 0);
}

function unsaved() {
  const forms = [...document.querySelectorAll("#dialog form"), ...document.forms];
  return forms.find((form) => form.method === "post" && controls(form).some(touched));
}

// `app.js` sends this event when it gets the sign-in page instead of an answer.
document.addEventListener("signed-out", (event) => {
  const unfinished = event.detail.form ?? unsaved();
  const back = unfinished ? location.href : event.detail.address;
  try {
    if (unfinished) keep(unfinished);
  } catch {
    return; // the form stays where it is
  }
  event.preventDefault();
  location.assign(`/sign-in?next=${encodeURIComponent(path(back))}`);
});

// The browser sends these forms itself. If the answer is not the sign-in page, the draft is dropped.
addEventListener("submit", ({ target: form, defaultPrevented }) => {
  if (defaultPrevented || form.method !== "post") return;
  const { pathname } = new URL(form.action);
  if (pathname === "/sign-out") forget();
  else if (pathname !== "/sign-in")
    try {
      keep(form);
    } catch {
      // the form is sent without a draft, as if there were no script
    }
});

function fill(form, fields) {
  for (const { name, type, value, checked } of fields)
    for (const control of controls(form).filter((it) => it.name === name))
      if (control.type !== "checkbox" && control.type !== "radio") control.value = value;
      else if (type === "hidden") control.checked = control.value === value;
      else if (control.value === value) control.checked = checked;
}

function notice(words) {
  const said = document.createElement("p");
  said.className = "notice";
  said.tabIndex = -1;
  said.textContent = words;
  return said;
}

function putBack({ action, fields }) {
  const forms = [...document.forms].filter(({ method }) => method === "post");
  const form =
    forms.find((it) => it.action === action) ??
    forms.find((it) => fields.every(({ name }) => it.elements.namedItem(name)));
  const said = notice(
    form
      ? "You are signed in again. What you typed is back, and it is not saved yet."
      : "You are signed in again, but this page no longer has the form in which you typed:"
  );
  if (form) {
    fill(form, fields);
    form.closest("details")?.setAttribute("open", "");
    form.prepend(said);
  } else {
    const typed = document.createElement("pre");
    const visible = fields.filter(({ type, value }) => type !== "hidden" && value);
    typed.textContent = visible.map(({ name, value }) => `${name}: ${value}`).join("\n");
    document.getElementById("main").prepend(said, typed);
  }
  said.focus();
}

const draft = stored();
if (draft && location.pathname === "/sign-in") {
  store({ ...draft, interrupted: true });
  document.getElementById("kept").hidden = false;
} else if (draft && (!draft.interrupted || draft.user !== user)) {
  forget();
} else if (draft?.address === path(location)) {
  forget();
  putBack(draft);
}
