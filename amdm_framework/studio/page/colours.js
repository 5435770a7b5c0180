// The colours of instances: those of `amdm preview`, which the studio sends.

let distinct = [];
let named = {};

export function useColours(installed) {
  distinct = installed.distinct;
  named = installed.named_colours;
}

// The colour word that stands first in a phrase, as it is written there.
export function colourWord(phrase) {
  return (phrase || '').toLowerCase().split(/[^a-z]+/).find((word) => Object.hasOwn(named, word));
}

// To choose from: one word for each colour, though some have two.
export function colourWords() {
  const words = Object.keys(named);
  return words.filter((word) => words.find((one) => named[one] === named[word]) === word);
}

// Of those, the one for the colour that a phrase names.
export function chosenWord(phrase) {
  const colour = named[colourWord(phrase)];
  return colourWords().find((word) => named[word] === colour) || '';
}

// What an instance is drawn in: the colour that its phrase names, or one of its own.
export function colourOf(scene, name) {
  const word = colourWord(scene.instances[name] && scene.instances[name].phrase);
  return word ? named[word] : distinct[Object.keys(scene.instances).indexOf(name) % distinct.length];
}

// Black or white, whichever stands out more from a colour (relative luminance of WCAG 2.1).
export function inkOn(colour) {
  const [r, g, b] = [1, 3, 5].map((start) => {
    const part = parseInt(colour.slice(start, start + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? '#000000' : '#ffffff';
}
