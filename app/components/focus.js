// A key, or a click on the button beside it, puts the cursor into a text field of the page; Escape
// leaves it, so that the keys work again. What is typed before the page has come to rest (its field
// may be about to change) is kept for the field, and is no command to the page.

let typed = null // while the field is waited for

function write(place) {
  const field = document.querySelector(`${place} textarea, ${place} input`)
  const resting = document.querySelector("[data-test-script-state='notRunning']")
  if (field && !resting) return setTimeout(write, 50, place)
  const text = typed
  typed = null
  if (!field) return
  field.focus()
  field.setSelectionRange(field.value.length, field.value.length)
  if (text) document.execCommand("insertText", false, text)
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
    else return
    event.preventDefault()
    event.stopImmediatePropagation()
  }
  const clicked = (event) => {
    if (event.target.closest?.(`${place} button`)) begin(place)
  }
  document.addEventListener("keydown", pressed, true)
  document.addEventListener("click", clicked)
  return () => {
    document.removeEventListener("keydown", pressed, true)
    document.removeEventListener("click", clicked)
  }
}
