// Controls by the keys of what they edit, and where somebody is typing.

export function controlAt(root, key) {
  return root.querySelector(`[data-key="${CSS.escape(key)}"]`);
}

// Lists are made anew when they change; whoever was typing in one goes on there.
export function keepFocus(parent, change) {
  const root = parent.getRootNode();
  const active = root.activeElement;
  const key = active && parent.contains(active) ? active.dataset.key : null;
  const caret = key && 'selectionStart' in active ? active.selectionStart : null;
  change();
  if (!key) return;
  const again = controlAt(parent, key);
  if (!again) return;
  again.focus({ preventScroll: true });
  if (caret !== null && again.setSelectionRange && again.type === 'text') again.setSelectionRange(caret, caret);
}
