// What the page works on, kept beside the session of its tab: loading the page anew goes on with it.

const KEY = 'amdm-draft';

export function keepDraft(store) {
  const first = JSON.stringify(store.installed.starts[0]);
  store.on('edited', () => {
    try {
      sessionStorage.setItem(KEY, JSON.stringify({ first, snapshot: store.snapshot() }));
    } catch {
      // There is no room for a text that is so long.
      sessionStorage.removeItem(KEY);
    }
  });
}

// Says whether there was something to go on with. A studio that was started with another composition begins with that one.
export function goOn(store) {
  try {
    const { first, snapshot } = JSON.parse(sessionStorage.getItem(KEY));
    if (first !== JSON.stringify(store.installed.starts[0])) return false;
    store.restore(snapshot);
    return true;
  } catch {
    return false;
  }
}
