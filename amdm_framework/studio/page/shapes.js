// The page relies on the shapes of a scene and of a composition, which somebody may have typed, or kept in a picture.

const WHOLE_NUMBER = /^(0|[1-9]\d*)$/;

// Returns the content as far as a form can hold it, and the keys of what it would lose.
export function fitted(part, content) {
  const lost = [];
  const keys = part === 'scene' ? fittedScene(content, lost) : fittedComposition(content, lost);
  return { content: { ...content, ...keys }, lost };
}

function fittedScene(scene, lost) {
  const instances = Object.entries(mappingOf(scene.instances, 'instances', lost)).filter(([name, one]) => {
    // JavaScript puts whole numbers before all other keys: their place is lost.
    if (!isInstance(one) || WHOLE_NUMBER.test(name)) lost.push(`instances.${name}`);
    return isInstance(one);
  });
  return {
    instances: Object.fromEntries(instances.map(([name, one]) => [name, { ...one, phrase: one.phrase ?? '' }])),
    interactions: mappingsOf(scene.interactions, 'interactions', lost),
    references: mappingsOf(scene.references, 'references', lost),
  };
}

function fittedComposition(composition, lost) {
  const members = listOf(composition.providers, 'providers', lost).map((one, number) => {
    const path = `providers.${number}`;
    if (!isMapping(one) || typeof one.use !== 'string') {
      lost.push(path);
      return null;
    }
    return 'condition' in one ? { ...one, condition: mappingOf(one.condition, `${path}.condition`, lost) } : one;
  });
  const keys = { providers: members.filter((one) => one) };
  for (const key of ['aggregation', 'sampler']) if (key in composition) keys[key] = mappingOf(composition[key], key, lost);
  return keys;
}

function isMapping(value) {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

function isInstance(one) {
  return isMapping(one) && Array.isArray(one.box) && one.box.length === 4 && one.box.every((value) => typeof value === 'number')
    && typeof (one.phrase ?? '') === 'string';
}

// A key without a value is one that is not given.
function mappingOf(value, key, lost) {
  if (isMapping(value)) return value;
  if (value !== null && value !== undefined) lost.push(key);
  return {};
}

function listOf(value, key, lost) {
  if (Array.isArray(value)) return value;
  if (value !== null && value !== undefined) lost.push(key);
  return [];
}

function mappingsOf(value, key, lost) {
  return listOf(value, key, lost).filter((one, number) => {
    if (!isMapping(one)) lost.push(`${key}.${number}`);
    return isMapping(one);
  });
}
