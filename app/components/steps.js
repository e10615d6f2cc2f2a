// One press of the back button undoes one choice. To Streamlit every address that the server writes is a
// step, and none that a widget bound to it writes. But a step is what the visitor's touch has led to: what
// is written before, where the page was just opened or gone back to, only completes the address.

let untouched = true
const { pushState, replaceState } = history

function step(state, title, url) {
  const to = new URL(url ?? "", location.href)
  const here = to.pathname === location.pathname
  untouched ||= !here
  const completes = here && (untouched || !location.search || to.search === location.search)
  return (completes ? replaceState : pushState).call(history, state, title, url)
}

if (pushState.name !== step.name) {
  history.pushState = history.replaceState = step
  addEventListener("popstate", () => (untouched = true), true)
  const touched = (event) => (untouched &&= !event.isTrusted)
  for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, touched, true)
}
