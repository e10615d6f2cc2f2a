// A key, or a click on the button beside it, puts the cursor into a text field of the page; Escape
// leaves it, so that the keys work again. What is typed before the page has come to rest (its field
// may be about to change) is kept for the field, and is no command to the page.

const ANSWER = 400 // ms from a command until the page shows that its server is at work

let typed = null // while the field is waited for
let commanded = -ANSWER // when the last key or click went to the page

function rests() {
  const idle = document.querySelector("[data-test-script-state='notRunning']")
  return idle && performance.now() - commanded > ANSWER
}

function write(place) {
  if (!rests()) return setTimeout(write, 50, place)
  const field = document.querySelector(`${place} textarea, ${place} input`)
  const text = typed
  typed = null
  if (!field) return
  field.focus()
  field.setSelectionRange(field.value.length, field.value.length)
  if (text) document.execCommand("insertText", false, text)
}

// A slower server may yet put another field in its place: the text is for that one.
function follow(field, place) {
  const before = field.value
  const observer = new MutationObserver(() => {
    if (field.isConnected) return
    observer.disconnect()
    const text = field.value
    typed = text.startsWith(before) ? text.slice(before.length) : text
    write(place)
  })
  observer.observe(document.body, { childList: true, subtree: true })
  const left = () => setTimeout(() => field.isConnected && observer.disconnect())
  field.addEventListener("focusout", left, { once: true })
}

const begin = (place) => {
  typed = ""
  write(place)
}

export default function ({ data }) {
  const place = "." + data.place
  const pressed = (event) => {
    const inside = event.target.closest?.(place)
    const writing = event.target.closest?.("input, textarea, [contenteditable]")
    if (typed === null && inside && event.key === "Escape") return event.target.blur()
    if (event.ctrlKey || event.metaKey || event.altKey) return
    if (typed !== null) typed += event.key.length === 1 ? event.key : ""
    else if (!writing && event.key.toLowerCase() === data.key) begin(place)
    else {
      if (!writing) commanded = performance.now()
      return
    }
    event.preventDefault()
    event.stopImmediatePropagation()
  }
  const entered = ({ target }) => {
    if (target.matches(`${place} :is(textarea, input)`)) follow(target, place)
  }
  const clicked = (event) => {
    if (event.target.closest?.(`${place} button`)) begin(place)
    else if (typed === null) commanded = performance.now()
  }
  document.addEventListener("keydown", pressed, true)
  document.addEventListener("focusin", entered)
  document.addEventListener("click", clicked)
  return () => {
    document.removeEventListener("keydown", pressed, true)
    document.removeEventListener("focusin", entered)
    document.removeEventListener("click", clicked)
  }
}
