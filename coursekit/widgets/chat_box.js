// The page of the chat box: a list of messages and a form. What is typed goes to Python as {say: text}; what comes back
// arrives as the trait `messages`, so that a conversation started from Python is shown as well.

function draw(list, model) {
  const labels = { user: "You", assistant: "Model", error: "Trouble" };
  list.replaceChildren(
    ...model.get("messages").map(({ role, content }) => {
      const item = document.createElement("li");
      item.className = role;
      const who = document.createElement("span");
      who.className = "who";
      who.textContent = labels[role] ?? role;
      const text = document.createElement("span");
      text.textContent = content; // as text: a model may say <script>
      item.append(who, text);
      return item;
    }),
  );
  list.parentElement.scrollTop = list.parentElement.scrollHeight;
}

function render({ model, el }) {
  el.classList.add("chat-box");
  const log = document.createElement("div");
  log.setAttribute("role", "log"); // read out as messages arrive
  log.setAttribute("aria-label", "Conversation");
  log.tabIndex = 0; // it scrolls, so the keyboard must reach it
  const list = document.createElement("ol");
  log.append(list);
  const form = document.createElement("form");
  const input = document.createElement("input");
  input.setAttribute("aria-label", "Your message");
  input.placeholder = model.get("placeholder");
  const send = document.createElement("button");
  send.textContent = "Send";
  const state = document.createElement("output");
  form.append(input, send, state);
  el.append(log, form);

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!input.value.trim() || model.get("busy")) return;
    model.send({ say: input.value });
    input.value = "";
  });
  // JupyterLab has shortcuts on single keys; what is typed here is ours.
  form.addEventListener("keydown", (event) => event.stopPropagation());

  const busy = () => {
    send.disabled = model.get("busy");
    state.textContent = model.get("busy") ? "thinking" : "";
  };
  const messages = () => draw(list, model);
  model.on("change:messages", messages);
  model.on("change:busy", busy);
  messages();
  busy();
  return () => {
    model.off("change:messages", messages);
    model.off("change:busy", busy);
  };
}

export default { render };
