/** What somebody does on the chat page, by its face alone; visit.py runs it there. */

const one = (selector) => document.querySelector(selector);

/** What `find` finds, looked for after every change of the page. */
function until(find) {
  return new Promise((resolve) => {
    const look = () => {
      const found = find();
      if (!found) return;
      changes.disconnect();
      resolve(found);
    };
    const changes = new MutationObserver(look);
    changes.observe(document, {
      attributes: true,
      characterData: true,
      childList: true,
      subtree: true,
    });
    look();
  });
}

/** Until the invitation is used; what the page says when it is not. */
async function joined() {
  const found = await until(() => one(".composer textarea, .problem"));
  return found.matches(".problem") ? found.innerText : null;
}

/** For the next time that the page is opened: as if it was asked last. */
function remember(model) {
  localStorage.setItem("meshllm.model", model);
}

/** Until this model is the one that will be asked. */
async function chosen(model) {
  await until(() => one(".model-button strong")?.textContent === model);
}

/** Times are in ms from the question's first letter: the page makes a way from then on. */
async function ask(prompt) {
  const field = one(".composer textarea");
  field.focus();
  const began = performance.now();
  document.execCommand("insertText", false, prompt);
  (await until(() => one(".send[aria-label=Send]:enabled"))).click();
  await until(() => one(".turn.theirs :is(.prose, .problem)"));
  const firstMs = performance.now() - began;
  const turn = await until(() => one(".turn.theirs[aria-busy=false]"));
  const text = turn.querySelector(".prose")?.innerText ?? "";
  const problem = turn.querySelector(".problem, .ending")?.innerText ?? null;
  return { text, problem, firstMs, carried: turn.querySelector(".carried").innerText };
}

async function hideAddress() {
  one(".path-button").click();
  (await until(() => one(".path-panel .sees .button"))).click();
}

/** What the panel says of the path, by name. */
async function path() {
  one(".path-button").click();
  await until(() => one(".path-panel .facts"));
  const facts = [...document.querySelectorAll(".path-panel .facts > div")];
  const said = facts.map((fact) => [...fact.children].map((part) => part.innerText));
  one(".path-panel [aria-label=Close]").click();
  return Object.fromEntries(said);
}
