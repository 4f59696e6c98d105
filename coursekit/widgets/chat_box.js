// The page of the chat box: a list of messages and a form. What is typed goes to Python as {say: text}; what comes back
// arrives as the trait `messages`, so that a conversation started from Python is shown as well.

const NAMES = { user: "You", assistant: "Model", error: "Trouble" };
const PATIENCE = 4000; // milliseconds until the page says why nothing happens

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function bubble({ role, content }) {
  const who = element("strong", { className: "who", textContent: NAMES[role] ?? role });
  return element("li", { className: role }, who, content); // as text: a model may say <script>
}

function render({ model, el }) {
  el.classList.add("chat-box");
  const list = element("ol");
  const log = element("div", { tabIndex: 0 }, list); // it scrolls, so the keyboard must reach it
  log.setAttribute("role", "log"); // read out as messages arrive
  log.setAttribute("aria-label", "Conversation");
  const input = element("input", { placeholder: model.get("placeholder"), autocomplete: "off" });
  input.setAttribute("aria-label", "Your message");
  const send = element("button", { textContent: "Send" });
  const form = element("form", {}, input, send);
  const state = element("output");
  el.append(log, form, state);

  let sent = null; // what was typed and has not come back yet: the kernel may be busy with another cell
  let waiting = 0;

  function draw() {
    const messages = model.get("messages");
    list.replaceChildren(...messages.map(bubble), ...(sent === null ? [] : [bubble({ role: "user", content: sent })]));
    log.scrollTop = log.scrollHeight;
  }
  function tell() {
    const thinking = model.get("busy");
    send.disabled = thinking || sent !== null;
    state.textContent = thinking ? "The model is thinking." : sent !== null ? "Sent." : "";
  }
  function arrived() {
    sent = null;
    clearTimeout(waiting);
    draw();
    tell();
  }
  function wait() {
    state.textContent = "Waiting for the kernel: is another cell running? Without a kernel nobody answers; run the cell again.";
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text || send.disabled) return;
    sent = text;
    waiting = setTimeout(wait, PATIENCE);
    input.value = "";
    draw();
    tell();
    model.send({ say: text });
  });
  // JupyterLab has shortcuts on single keys; what is typed here is ours.
  form.addEventListener("keydown", (event) => event.stopPropagation());

  model.on("change:messages", arrived);
  model.on("change:busy", tell);
  draw();
  tell();
  return () => {
    clearTimeout(waiting);
    model.off("change:messages", arrived);
    model.off("change:busy", tell);
  };
}

export default { render };
